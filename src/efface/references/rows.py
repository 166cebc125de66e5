"""The rows of an audit: original, retrained, retrained for as long, fine-tuned, logit mask, others, candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, Model, given
from efface.artifact.compatible import check_architecture, check_reference
from efface.auditing.rows import AS_LONG, Role, Row, Rows
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.models.adapt import adapted
from efface.references.as_long import retrained_as_long
from efface.references.references import References

__all__ = ["Retrained", "rows_of"]

Retrained = Model | Sequence[Model] | References | bool
"""One or several models trained without the data, or a folder of them; True trains one; False: none."""

BASELINES = (("fine-tuned", "fine-tune"), ("logit mask", "logit-mask"))
"""Rows made for every audit, with their methods: what is had without an unlearning method."""


def rows_of(
    model: Model,
    case: Case,
    *,
    retrained: Retrained = False,
    others: Mapping[str, Model] | None = None,
    baselines: bool = True,
) -> Rows:
    """Gather the models of an audit, and make those that every audit has.

    Args:
        model: What is audited.
        case: The model before forgetting, its data under the request, device and seed of what is trained.
        retrained: Models trained without the data. Of a folder, repeated runs of the model's own method are used, too.
        others: More models by name.
        baselines: Make the rows that every audit of its own has.

    Raises:
        InputError: A reference does not belong to the original or saw the data, or two rows have one name.
    """
    record = model.record if isinstance(model, Artifact) else None
    name = record.method if record and record.action == "forget" else "candidate"
    original, run = case.original, case.run
    references = [
        _row("retrained" if i == 0 else f"retrained {i + 1}", "retrained", r, case)
        for i, r in enumerate(references_of(retrained, case))
    ]
    before = original.record.weights_after
    assert case.split.request is not None
    if record and before not in (unserved := record.unserved(case.split.request)) and unserved:
        raise InputError(
            "this original is not the model that forgetting started from, nor one before it "
            f"(SHA-256 {before[:12]}..., recorded {str(record.weights_before)[:12]}...)"
        )
    repeats: Iterable[Artifact] = ()
    if record and isinstance(retrained, References) and retrained.serves(case.split):
        repeats = retrained.unlearned(record.method, record.settings)
    made_here, notes = _baselines(case, name) if baselines else ([], [])
    if record and record.weights_before not in {None, before}:
        notes.append("the original is a model before several requests of this artifact, not only before this one")
    if references and baselines:
        folder = retrained if isinstance(retrained, References) and retrained.keep_answers else None
        made = retrained_as_long(case, record if name != "candidate" else None, folder)
        if isinstance(made, str):
            notes.append(f"the row {AS_LONG!r} is not measured: {made}")
        else:
            made_here.insert(0, _row(AS_LONG, "baseline", made, case))
    table = [
        Row("original", "original", run.copied(original.model), record=original.record),
        *references[:1],
        *made_here,
        *(_row(label, "other", other, case) for label, other in (others or {}).items()),
        _row(name, "candidate", model, case),
    ]
    return Rows(
        tuple(table),
        further=tuple(references[1:]),
        repeats=tuple(_row(name, "candidate", r, case) for r in repeats),
        notes=tuple(notes),
    )


def references_of(retrained: Retrained, case: Case) -> list[Artifact]:
    """Return the retrained models, checked against the original; for True, one that is trained now.

    Args:
        retrained: As handed over.
        case: The model before forgetting, its data under the request, and the seed of what is trained.

    Raises:
        InputError: A reference does not belong to the original, or saw the data.
    """
    original, split = case.original, case.split
    if isinstance(retrained, References):
        _trained(retrained.manifest.recipe.epochs)
        retrained.check(original.record, split)
        models = list(retrained)
        check_architecture(models[0].model, original.model)
        return models
    if isinstance(retrained, bool):
        if retrained:
            _trained(original.record.recipe.epochs)
        return [apply(make("retrain"), case.child())] if retrained else []
    listed = [retrained] if isinstance(retrained, Artifact | nn.Module) else list(retrained)
    made = []
    for reference in listed:
        if isinstance(reference, Artifact):
            _trained(reference.record.recipe.epochs)
            check_reference(reference.record, original.record, split)
            made.append(reference)
        else:
            made.append(given(reference, split, original.record.recipe, case.run))
    for reference in made:
        if reference.record.weights_after == original.record.weights_after:
            raise InputError(
                f"a retrained model is the original itself (SHA-256 {original.record.weights_after[:12]}...); give a "
                "model that was trained without the data"
            )
    return made


def _trained(epochs: float) -> None:
    """Refuse retraining that does nothing: an untrained model would be taken for what forgetting should give."""
    if epochs <= 0:
        raise InputError(
            "the recipe trains for 0 epochs, so a retrained model would be an untrained one; say how the original was "
            "trained with recipe=... (efface train --recipe-set epochs=N), or give retrained=<your module>"
        )


def _baselines(case: Case, candidate: str) -> tuple[list[Row], list[str]]:
    """Return what can be had without a method, but for what is audited itself, and why one could not be made."""
    request = case.split.request
    assert request is not None
    rows, notes = [], []
    for row, kind in BASELINES:
        method = make(kind)
        if request.target not in method.needs.targets or candidate in {row, kind}:
            continue
        try:
            made = apply(method, case.child())
        except InputError as error:
            notes.append(f"the row {row!r} is not assessed: {error}")
        else:
            rows.append(_row(row, "baseline", made, case))
    return rows, notes


def _row(name: str, role: Role, model: Model, case: Case) -> Row:
    """Put a model on the device; its time is that of forgetting, as its record says."""
    if isinstance(model, Artifact):
        return Row(name, role, case.run.copied(model.model), model.record.seconds.get("forget"), model.record)
    data = case.split.data
    network, _ = adapted(model, data.input_shape, len(data.classes), data.input_dtype)
    return Row(name, role, case.run.copied(network))
