"""Where an artifact comes from, and what follows: its data split, its architecture, what may be compared with it."""

from __future__ import annotations

from torch import nn

from efface.artifact import DataRecord, Record
from efface.data import Data, Split
from efface.errors import InputError
from efface.methods.catalogue import make, methods
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.training import Recipe

__all__ = ["check_data", "check_reference", "differences", "rebuilt", "split_under"]


def split_under(record: Record, data: Data, request: Request | None = None) -> Split:
    """Return the data split that a recorded model was trained on, under a further request."""
    return Split.of(data, request, record.data.validation, record.data.split_seed, record.earlier_requests)


def rebuilt(model: nn.Module, record: Record) -> nn.Module:
    """Return the architecture that a record's chain of methods left; for `Artifact.load`."""
    for step in record.chain:
        if step.method in methods():
            model = make(step.method, step.settings).rebuild(model, step)
    return model


def check_data(record: Record, data: Data) -> None:
    """Refuse data that is not what a model was trained on.

    Raises:
        InputError: The fingerprints differ.
    """
    if record.data.fingerprint != data.fingerprint:
        raise InputError(
            f"this is not the data that the artifact was trained on (fingerprint {data.fingerprint[:12]}..., recorded "
            f"{record.data.fingerprint[:12]}... for {record.data.source} with {record.data.options}); load it with the "
            "same options"
        )


def differences(
    data: DataRecord, model: ModelSpec | None, recipe: Recipe, request_fingerprint: str | None, original: Record
) -> dict[str, tuple[object, object]]:
    """Return what keeps a retrained model from being a reference for an original: name -> (its own, needed).

    Args:
        data: Which data the retrained model saw.
        model: How it was built.
        recipe: How it was trained.
        request_fingerprint: What it was trained without; None compares no requests.
        original: Record of the original, or of what it was forgotten to.
    """
    pairs: dict[str, tuple[object, object]] = {
        "data": (data.fingerprint, original.data.fingerprint),
        "held-out fraction": (data.validation, original.data.validation),
        "held-out seed": (data.split_seed, original.data.split_seed),
        "model": (_words(model), _words(original.model)),
    }
    theirs, ours = recipe.model_dump(), original.recipe.model_dump()
    pairs |= {f"recipe's {name}": (theirs[name], ours[name]) for name in theirs}
    if request_fingerprint is not None:
        pairs["request"] = (request_fingerprint, original.request_fingerprint)
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def check_reference(reference: Record, original: Record, split: Split) -> None:
    """Refuse a reference trained on other data, for another request, by another recipe, or not by retraining.

    Raises:
        InputError: It names every difference.
    """
    found = differences(reference.data, reference.model, reference.recipe, None, original)
    if reference.method != "retrain":
        found = {"method": (reference.method, "retrain"), **found}
    elif split.resolved is not None and reference.request_fingerprint != split.resolved.fingerprint:
        found = {"request": (reference.request_fingerprint, split.resolved.fingerprint), **found}
    if found:
        raise InputError(
            f"the retrained model does not fit this audit; different: {in_words(found)}. "
            "Make one with method retrain from the same original and request"
        )


def in_words(found: dict[str, tuple[object, object]]) -> str:
    """Write differences as `name (its own instead of needed)`."""
    return ", ".join(f"{name} ({_short(a)} instead of {_short(b)})" for name, (a, b) in found.items())


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text


def _words(model: ModelSpec | None) -> str:
    if model is None:
        return "handed over in Python"
    arguments = ", ".join(f"{k}={v}" for k, v in sorted(model.arguments.items()))
    return f"{model.build}({arguments})"
