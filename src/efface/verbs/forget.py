"""The verb `forget`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, Model, split_under
from efface.data import Counts, Data
from efface.errors import ForgettingWarning, InputError
from efface.mechanisms.members import spread
from efface.methods.applying import apply
from efface.methods.catalogue import method_of
from efface.methods.method import Method
from efface.models.ensemble import Ensemble
from efface.models.predictions import accuracy_of
from efface.models.spec import ModelSpec
from efface.references.references import References
from efface.request import Request
from efface.running.progress import Progress, shown
from efface.running.run import Run
from efface.training.recipe import Recipe

__all__ = ["forget", "kept_accuracy"]

AUTO = "auto"

UNJUDGED = "project-distil"
"""What `auto` takes for classes of a model that came without a record, where nothing is held out to judge by."""


def forget(
    model: Model | ModelSpec,
    data: Data,
    request: Request,
    *,
    method: str | Method = AUTO,
    settings: Mapping[str, Any] | None = None,
    tune: bool = False,
    budget: float | None = None,
    retrained: Model | Sequence[Model] | References = (),
    keep_trials: str | Path | None = None,
    recipe: Recipe | None = None,
    validation: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    checkpoints: Path | None = None,
    backend: str = "auto",
    workers: int | None = None,
    progress: Progress | bool | None = None,
) -> Artifact:
    """Make a trained classifier forget.

    Args:
        model: An artifact, your own trained module, or a `ModelSpec` with weights; it is not changed.
        data: The data it was trained on.
        request: What to forget.
        method: Name or instance; `auto` climbs the ladder of methods from cheap to dear until one passes, see
            `efface.searching.ladder.climb`. For classes of your own module nothing of whose training data is held out
            it can judge none, and takes project-distil as it is; a note says so.
        settings: Hyper-parameters of a method given by name; with `tune`, those that are not varied.
        tune: Search the method's other hyper-parameters on held-out training data (extra `search`).
        budget: Share of retraining's time that a search may take, such as 0.3; `auto` then tunes its rungs.
        retrained: For a search: one or several models retrained without the data, or a folder of them, to judge by.
        keep_trials: For a search: a folder for its trials, so that a stopped one resumes; yours to delete.
        recipe: How your own module was trained, for methods that train; an artifact knows.
        validation: Fraction of the training data that your own module was never trained on, drawn as `train` draws
            it: records in it are not forgotten. By default none; an artifact knows.
        seed: Seed of this step.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        checkpoints: Folder for the state of a long training within forgetting, as in `train`.
        backend: Where the members of an ensemble are trained again, as in `train`.
        workers: Most members at once; one per core by default.
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

    Returns:
        A new artifact whose record names the old one as its parent.

    Warns:
        ForgettingWarning: The method did not do what it is for: each of the record's `failures`.

    Raises:
        InputError: The request, the method, its settings or the data do not fit together.

    Example:
        >>> import efface
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> forgotten = efface.forget(original, data, efface.Request(classes=[3]), method="ssd")
        >>> forgotten.record.method, forgotten.record.weights_before == original.record.weights_after
        ('ssd', True)
    """
    searching = tune or method == AUTO
    chosen = None if method == AUTO else method_of(method, None if tune else settings)
    if tune and not isinstance(method, str):
        raise InputError("tuning goes with a method's name; an instance already has its own hyper-parameters")
    if chosen is None and settings:
        raise InputError("method auto takes every method at its defaults; name a method to set hyper-parameters")
    if not searching and (budget is not None or keep_trials is not None or retrained != ()):
        raise InputError(
            "a budget, retrained models and a folder of trials are for a search to judge by: leave the method out "
            "(auto), or tune it; give retrained models to the audit instead"
        )
    if searching and checkpoints is not None:
        raise InputError("checkpoints are for one method; a search keeps its trials (keep_trials), and resumes so")
    case = Case.of(
        model, data, request, seed=seed, device=device, recipe=recipe, validation=validation, progress=shown(progress)
    )
    spread(case.run, backend, workers, apart=isinstance(case.original.model, Ensemble))
    case.run.checkpoints = checkpoints
    if not isinstance(model, Artifact) and case.split.counts is not None and case.split.counts.untrained:
        _ask_whether_seen(case.split.counts, validation, case.run)
    if chosen is None and budget is None and retrained == () and not isinstance(model, Artifact):
        chosen = _unjudged(case)
        searching = chosen is None
    if searching:
        made = _searched(case, chosen, settings, tune, budget, retrained, keep_trials)
    else:
        assert chosen is not None
        made = apply(chosen, case)
    for text in made.record.failures:
        warnings.warn(text, ForgettingWarning, stacklevel=2)
    return made


def _unjudged(case: Case) -> Method | None:
    """Return what is taken where nothing is held out to judge by, and note that; None where a search can judge."""
    split = case.split
    if len(split.validation_retain) or not split.forget_classes:
        return None
    case.run.note(
        "auto: nothing is known to be held out of this model's training, so that no method could be judged: "
        f"{UNJUDGED} was taken at its defaults. Audit it; or say what the model did not see (--validation 0.1)"
    )
    return method_of(UNJUDGED, None)


def _searched(
    case: Case,
    chosen: Method | None,
    settings: Mapping[str, Any] | None,
    tune: bool,
    budget: float | None,
    retrained: Model | Sequence[Model] | References,
    keep_trials: str | Path | None,
) -> Artifact:
    """Forget with what a search over methods, or over one method's hyper-parameters, finds."""
    # The audit's questions, scikit-learn and scipy, are not needed by any method.
    from efface.references.rows import references_of
    from efface.searching.ladder import Search, climb, tuned

    references = references_of(retrained, case)
    known = [r.record.seconds["forget"] for r in references if "forget" in r.record.seconds]
    search = Search(
        budget=budget,
        tune=tune or budget is not None,
        references=tuple(r.model for r in references),
        retraining=max(known, default=None),
        folder=None if keep_trials is None else Path(keep_trials),
    )
    return climb(case, search) if chosen is None else tuned(chosen.name, case, search, settings)


def _ask_whether_seen(counts: Counts, validation: float, run: Run) -> None:
    """Ask, in a note and a warning, whether a model that was handed over never saw the records held out."""
    text = (
        f"validation={validation:g} says that the model was never trained on {counts.untrained} of the {counts.found} "
        "records asked for, so they are not forgotten. Is that so? If the model saw all the data, give validation=0"
    )
    run.note(text)
    warnings.warn(text, ForgettingWarning, stacklevel=3)


def kept_accuracy(forgotten: Artifact, data: Data) -> str:
    """Say how useful a model stayed, on kept records that were held out of training; test data is left for audits.

    Args:
        forgotten: Made by `forget` in this process, so that its original is at hand.
        data: What the original was trained on.

    Returns:
        A sentence, also where nothing was held out.
    """
    before, request = forgotten.parent, forgotten.record.request
    assert before is not None
    part = split_under(before.record, data, request).validation_retain
    if not len(part):
        return "kept accuracy: not looked at, as nothing was held out of training; an audit asks test data"
    now, then = (accuracy_of(a.model, part) for a in (forgotten, before))
    return f"kept accuracy: {now:.1%} of {len(part)} held-out records, {then:.1%} before"
