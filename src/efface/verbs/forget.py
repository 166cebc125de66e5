"""The verb `forget`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, Model, network_of
from efface.data import Data
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import method_of
from efface.methods.method import Method
from efface.request import Request
from efface.running.progress import Progress
from efface.training.recipe import Recipe

__all__ = ["forget"]

AUTO = "auto"


def forget(
    model: Model,
    data: Data,
    request: Request,
    *,
    method: str | Method,
    settings: Mapping[str, Any] | None = None,
    retrained: Model | None = None,
    recipe: Recipe | None = None,
    validation: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Artifact:
    """Make a trained classifier forget.

    Args:
        model: An artifact, or your own trained module; it is not changed.
        data: The data it was trained on.
        request: What to forget.
        method: Name or instance; `auto` tries what the request and the data allow, see
            `efface.searching.ladder.choose`.
        settings: Hyper-parameters of a method given by name.
        retrained: For `auto`: a model retrained without the data, to judge by.
        recipe: How your own module was trained, for methods that train; an artifact knows.
        validation: Fraction of the training data held out, for your own module (its training should not have seen
            it); an artifact knows.
        seed: Seed of this step.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

    Returns:
        A new artifact whose record names the old one as its parent.

    Raises:
        InputError: The request, the method, its settings or the data do not fit together.
    """
    chosen = None if method == AUTO else method_of(method, settings)
    if chosen is None and settings:
        raise InputError("method auto takes every method at its defaults; name a method to set hyper-parameters")
    if chosen is not None and retrained is not None:
        raise InputError("a retrained model is only for method auto to judge by; give it to the audit instead")
    case = Case.of(
        model, data, request, seed=seed, device=device, recipe=recipe, validation=validation, progress=progress
    )
    if chosen is None:
        from efface.searching.ladder import choose  # scikit-learn and scipy, which no method needs

        return choose(case.original, case.split, case.run, None if retrained is None else network_of(retrained))
    return apply(chosen, case)
