"""The verb `train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import split_under
from efface.data import Data, Split
from efface.data.planted import canaries_for, planted
from efface.errors import InputError
from efface.mechanisms.members import spread
from efface.methods.applying import prepare
from efface.methods.catalogue import method_of
from efface.methods.method import Method
from efface.models.adapt import adapted
from efface.models.spec import ModelSpec, build
from efface.running.progress import Progress, shown
from efface.running.run import Run
from efface.training.recipe import Recipe

__all__ = ["train"]


def train(
    model: nn.Module | ModelSpec | str | Artifact,
    data: Data,
    *,
    method: str | Method | None = None,
    settings: Mapping[str, Any] | None = None,
    keep: Sequence[str] = (),
    recipe: Recipe | None = None,
    validation: float = 0.1,
    canaries: int = 0,
    device: str = "auto",
    checkpoints: Path | None = None,
    backend: str = "auto",
    workers: int | None = None,
    progress: Progress | bool | None = None,
) -> Artifact:
    """Train a classifier, plainly or with what a method needs to forget later.

    Args:
        model: A built-in's name, a `ModelSpec`, your own module (a copy is trained, from its present weights), or an
            artifact to continue from (e.g. to fine-tune mnemonic codes in).
        data: Training and test data.
        method: A method that prepares at training time (its name or an instance); None trains plainly.
        settings: Hyper-parameters of a method given by name.
        keep: What to keep for forgetting beside what the method leaves: `class-means`, the mean inputs of every layer
            per class, with which the methods class-means and project-distil need no data of the forgotten class.
        recipe: How to train; the artifact's own, or the default recipe, if not given.
        validation: Fraction of the training data to hold out; an artifact's own value wins.
        canaries: How many canaries to add to the training data, from the recipe's seed: copies of training records,
            slightly displaced, half of them with a wrong label. A later `Request(..., canaries=True)` has them
            forgotten as well, and its audit then knows what memorised looks like.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        checkpoints: Folder for the state of a long training, written every minute and deleted at the end: the same
            call goes on from there after a stop. Of members trained apart, the state after each slice is kept, too,
            until the artifact is saved.
        backend: Where a method that trains members apart (`sisa`, `arcane`) trains them: `processes`, `serial`, `ray`;
            `auto` takes processes where that pays. The bits are the same.
        workers: Most members at once; one per core by default.
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

    Returns:
        The artifact; nothing is written until `save`.

    Raises:
        InputError: Something given does not fit.

    Example:
        >>> import efface
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> original.record.action
        'train'
    """
    parent = model if isinstance(model, Artifact) else None
    recipe = recipe or (parent.record.recipe if parent else Recipe())
    chosen = None if method is None else method_of(method, settings)
    if chosen is None and settings:
        raise InputError(
            f"hyper-parameters {', '.join(settings)} were given, but no method to take them; name a method"
        )
    if recipe.epochs == 0 and not keep:
        raise InputError(
            "epochs=0 trains nothing, and makes every model retrained by that recipe random; to forget in a model that "
            "was trained elsewhere, hand it to `forget` (`efface forget WEIGHTS --model ... --data ...`)"
        )
    run = Run(
        seed=recipe.seed, device=device, precision=recipe.precision, progress=shown(progress), checkpoints=checkpoints
    )
    spread(run, backend, workers, apart=chosen is not None and chosen.apart)
    spec: ModelSpec | None = None
    if isinstance(model, Artifact):
        if canaries:
            raise InputError("canaries are planted when a model is trained from the start, not when training goes on")
        spec, network = model.record.model, model.model
        split = split_under(model.record, data)
    else:
        if isinstance(model, str):
            model = ModelSpec(build=model)
        if isinstance(model, ModelSpec):
            spec = model
            network = build(
                model,
                input_shape=data.input_shape,
                num_classes=len(data.classes),
                seed=run.number("initial weights"),
                trust=True,
            )
        else:
            network, _ = adapted(model, data.input_shape, len(data.classes), data.input_dtype)
        if canaries:
            data = planted(data, canaries_for(data, canaries, recipe.seed, validation), validation, recipe.seed)
        split = Split.of(data, validation=validation, seed=recipe.seed)
    return prepare(chosen, network, split, recipe, run, spec=spec, parent=parent, keep=keep)
