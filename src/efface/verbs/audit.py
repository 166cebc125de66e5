"""The verb `audit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Model, given, network_of
from efface.artifact.compatible import check_architecture, check_data, check_reference
from efface.data import Data, Split
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.references import References
from efface.request import Request
from efface.running.progress import Progress
from efface.running.run import Run
from efface.training.recipe import Recipe

if TYPE_CHECKING:
    from efface.auditing.result import Audit
    from efface.auditing.settings import AuditSettings

__all__ = ["audit"]


def audit(
    model: Model,
    data: Data,
    request: Request | None = None,
    *,
    original: Model | None = None,
    retrained: Model | Sequence[Model] | References | bool = False,
    others: Mapping[str, Model] | None = None,
    recipe: Recipe | None = None,
    validation: float = 0.1,
    settings: AuditSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Audit:
    """Measure how far a model has forgotten, beside the original, retrained, fine-tuned and logit-mask rows.

    Args:
        model: What to audit: an artifact made by `forget`, or any module.
        data: The data the original was trained on.
        request: What was to be forgotten; an artifact knows.
        original: The model before; an artifact made in this process knows.
        retrained: One or several models trained without the data, or a folder of them (`load_references`); True
            trains one now; False audits at level (a). Of a folder, repeated runs of the model's own method are used,
            too.
        others: More rows by name.
        recipe: How the original was trained, if neither model is an artifact.
        validation: Fraction held out of training; an artifact knows.
        settings: What the audit may spend, and its tolerances.
        seed: Seed of the audit's draws and of the models it trains.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

    Raises:
        InputError: A model, the request or the data is missing or does not fit.
    """
    from efface.auditing.answers import Answers
    from efface.auditing.assess import assess  # scikit-learn and scipy, which training and forgetting do not need

    record = model.record if isinstance(model, Artifact) else None
    if request is None:
        request = record.request if record else None
    if request is None:
        raise InputError("the request is missing: say what was to be forgotten")
    if original is None:
        original = model.parent if isinstance(model, Artifact) else None
    if original is None:
        raise InputError("the original model is missing: give the model (or artifact folder) before forgetting")
    if record is not None:
        check_data(record, data)
        validation, split_seed, recipe = record.data.validation, record.data.split_seed, record.recipe
        earlier = tuple(r for r in record.earlier_requests if r != request)
    elif isinstance(original, Artifact):
        check_data(original.record, data)
        validation, split_seed = original.record.data.validation, original.record.data.split_seed
        recipe, earlier = original.record.recipe, original.record.earlier_requests
    else:
        recipe = recipe or Recipe()
        split_seed, earlier = recipe.seed, ()
    split = Split.of(data, request, validation, split_seed, earlier)
    run = Run(seed=recipe.seed + 1 + seed, device=device, precision=recipe.precision, progress=progress)
    before = original if isinstance(original, Artifact) else given(original, split, recipe, run)

    name = record.method if record and record.action == "forget" else "candidate"
    rows: dict[str, nn.Module] = {"original": before.model}
    seconds: dict[str, float] = {}
    notes: list[str] = []
    history = [dict(row) for row in record.history] if record else []
    if isinstance(retrained, References):
        retrained.check(before.record, split)
    if record and isinstance(original, Artifact) and record.weights_before not in {None, original.record.weights_after}:
        raise InputError(
            "this original is not the model that forgetting started from "
            f"(SHA-256 {original.record.weights_after[:12]}..., recorded {str(record.weights_before)[:12]}...)"
        )
    references = _references(retrained, before, split, run)
    repeats = (
        retrained.unlearned(record.method, record.settings) if record and isinstance(retrained, References) else []
    )
    if references:
        rows["retrained"] = references[0].model
        if "forget" in references[0].record.seconds:
            seconds["retrained"] = references[0].record.seconds["forget"]
    for row, kind in (("fine-tuned", "fine-tune"), ("logit mask", "logit-mask")):
        baseline = make(kind)
        if request.target in baseline.needs.targets and name not in {row, kind}:
            try:
                made = apply(baseline, before, split, run.child())
            except InputError as error:
                notes.append(f"the row {row!r} is not assessed: {error}")
            else:
                rows[row], seconds[row] = made.model, made.record.seconds["forget"]
    for label, other in (others or {}).items():
        rows[label] = network_of(other)
        if isinstance(other, Artifact) and "forget" in other.record.seconds:
            seconds[label] = other.record.seconds["forget"]
    rows[name] = network_of(model)
    if record and "forget" in record.seconds:
        seconds[name] = record.seconds["forget"]
    found = assess(
        {label: run.copied(network) for label, network in rows.items()},
        split,
        run,
        candidate=name,
        references=[run.copied(r.model) for r in references[1:]],  # the first is the row
        shadows=[run.copied(r.model) for r in repeats],
        seconds=seconds,
        history=history,
        settings=settings,
        answers=Answers(retrained.answers) if isinstance(retrained, References) and retrained.answers else None,
    )
    if record and isinstance(retrained, References):
        from efface.references.shadows import shadow_notes

        notes += shadow_notes(retrained, split, record)
    return found.model_copy(update={"notes": (*found.notes, *notes)})


def _references(
    retrained: Model | Sequence[Model] | References | bool, original: Artifact, split: Split, run: Run
) -> list[Artifact]:
    if isinstance(retrained, References):
        models = list(retrained)
        check_architecture(models[0].model, original.model)
        return models
    if retrained is False:
        return []
    if retrained is True:
        return [apply(make("retrain"), original, split, run.child())]
    listed = [retrained] if isinstance(retrained, Artifact | nn.Module) else list(retrained)
    made = []
    for reference in listed:
        if isinstance(reference, Artifact):
            check_reference(reference.record, original.record, split)
            made.append(reference)
        else:
            made.append(given(reference, split, original.record.recipe, run))
    return made
