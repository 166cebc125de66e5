"""Whether data, an architecture or a reference goes with a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import nn

from efface.artifact.record import DataRecord, Record
from efface.data import Data, Split
from efface.data.planted import planted
from efface.errors import InputError
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.training.recipe import Recipe

__all__ = ["as_trained", "check_architecture", "check_reference", "differences", "in_words", "unlike_requests"]


def as_trained(record: Record, data: Data) -> Data:
    """Return the data as a model was trained on it: with its canaries, if it had any.

    Raises:
        InputError: It is not what the model was trained on: the fingerprints differ.
    """
    about = record.data.canaries
    if about is not None and data.canaries is None and len(data.train) == record.data.train_size - about.count:
        data = planted(data, about, record.data.validation, record.data.split_seed)
    if record.data.fingerprint != data.fingerprint:
        raise InputError(
            f"this is not the data that the artifact was trained on (fingerprint {data.fingerprint[:12]}..., recorded "
            f"{record.data.fingerprint[:12]}... for {record.data.source} with {record.data.options}); load it with the "
            "same options"
        )
    return data


class Described(Protocol):
    """What says how a model was trained: a `Record`, or the manifest of many references."""

    @property
    def data(self) -> DataRecord:
        """Which data."""

    @property
    def model(self) -> ModelSpec | None:
        """How the network is built."""

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""

    @property
    def request_fingerprint(self) -> str | None:
        """What it was trained without."""


def differences(reference: Described, needed: Described, request: str | None) -> dict[str, tuple[object, object]]:
    """Return what keeps retrained models from being references: name -> (what they have, what is needed).

    Args:
        reference: How the retrained models were trained.
        needed: How the original was trained.
        request: Fingerprint of the request that they must have been trained without.
    """
    pairs: dict[str, tuple[object, object]] = {
        "request": (reference.request_fingerprint, request),
        "data": (reference.data.fingerprint, needed.data.fingerprint),
        "held-out fraction": (reference.data.validation, needed.data.validation),
        "held-out seed": (reference.data.split_seed, needed.data.split_seed),
    }
    if needed.model is not None:  # of a module handed over in Python, only the weights' shapes can be compared
        pairs["model"] = (_words(reference.model), _words(needed.model))
    theirs, ours = reference.recipe.model_dump(), needed.recipe.model_dump()
    pairs |= {f"recipe's {name}": (theirs[name], ours[name]) for name in theirs}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def unlike_requests(requests: Sequence[Request], split: Split) -> dict[str, tuple[object, object]]:
    """Say what keeps a model trained without some requests' records from lacking just those that a split leaves out.

    In which requests they were asked for makes no difference to it: one reference serves every request of a sequence.

    Args:
        requests: What the model was trained without.
        split: Its own request's records, and those that other requests named.

    Returns:
        Empty, or the requests in words and what is needed.
    """
    needed = np.concatenate([split.gone, *([] if split.resolved is None else [split.resolved.indices])])
    theirs = [r.resolve(split.data).indices for r in requests]
    lacked = np.concatenate([*theirs, needed[:0]])
    if np.array_equal(np.setdiff1d(lacked, split.held_out), np.setdiff1d(needed, split.held_out)):
        return {}
    asked = "nothing" if split.request is None else split.request_text
    others = f" and {len(split.gone)} records of other requests" if len(split.gone) else ""
    return {"request": (" and ".join(r.describe() for r in requests) or "nothing", f"{asked}{others}")}


def check_reference(reference: Record, original: Record, split: Split) -> None:
    """Refuse a reference trained on other data, for another request, by another recipe, or not by retraining.

    Raises:
        InputError: It names every difference.
    """
    found = differences(reference, original, reference.request_fingerprint)
    if "data" not in found:
        found = unlike_requests(reference.earlier_requests, split) | found
    if reference.method != "retrain":
        found = {"method": (reference.method, "retrain")} | {k: v for k, v in found.items() if k != "request"}
    if found:
        raise InputError(
            f"the retrained model does not fit this audit; different: {in_words(found)}. "
            "Make one with method retrain from the same original and request"
        )


def check_architecture(reference: nn.Module, original: nn.Module) -> None:
    """Refuse a reference whose weights have other names or shapes than the original's.

    Raises:
        InputError: It names the first that differs.
    """
    mine, theirs = ({k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (reference, original))
    different = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
    if different:
        name = different[0]
        raise InputError(
            f"the retrained model is of another architecture than the original: {name} has shape {mine.get(name)} "
            f"instead of {theirs.get(name)}"
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
