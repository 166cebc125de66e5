"""Retraining for as long: what training anew without the data gives in the time that forgetting took."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import warnings
from pathlib import Path

import torch

from efface.artifact.artifact import RECORD, Artifact
from efface.artifact.case import Case
from efface.artifact.record import Record
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.retrain import Retrain
from efface.models.ensemble import Ensemble
from efface.references.references import AS_LONG, References
from efface.training.loop import Trainer, warm_up

__all__ = ["retrained_as_long", "shortened"]

_SHARE, _LEAST, _MOST = 0.1, 0.05, 1.0  # of the time at hand, and seconds, spent on timing steps beforehand


def retrained_as_long(case: Case, forgotten: Record | None, folder: References | None = None) -> Artifact | str:
    """Return a model retrained without the data for as long as forgetting took, or why there is none.

    The same recipe from new weights on the kept data, its schedule shortened to steps = floor(t / t_step) of them, at
    most all: t is the wall time of forgetting by its record, t_step that of one step, timed here beforehand on a model
    that is thrown away. Its own time is in its record.

    Args:
        case: The model before forgetting, its data under the request, device and seed.
        forgotten: Of the model that is compared; None if it has none.
        folder: Where it is kept from one audit to the next, and taken from; None trains again.
    """
    if why := _impossible(case, forgotten):
        return why
    assert forgotten is not None
    seconds = forgotten.seconds["forget"]
    case = case.child(case.run.number("retrained for as long"))
    path = None if folder is None else folder.folder / AS_LONG / _key(case, seconds)
    if folder is not None and path is not None and (path / RECORD).is_file():
        return folder.opened(path)
    try:
        steps, whole = _steps(case, seconds)
        if steps == 0:
            return "forgetting took less time than one step of training does"
        epochs = sum(recipe.epochs for recipe in case.original.record.trainings) * steps / whole
        bare = dataclasses.replace(case.original, memory={}, parent=None)
        case.run.note(f"retrained for as long as forgetting took ({seconds:.3g} s): {steps} of {whole} steps")
        made = apply(Retrain(), dataclasses.replace(case, original=shortened(bare, epochs)))
    except InputError as error:
        return str(error)
    if path is not None:
        _keep(made, path)
    return made


def _keep(made: Artifact, path: Path) -> None:
    """Keep a model for the next audit, if that can be; another audit may have made the same meanwhile.

    Warns:
        UserWarning: It cannot be kept.
    """
    try:
        made.save(path)
    except (InputError, OSError) as error:
        if not (path / RECORD).is_file():
            why = getattr(error, "strerror", None) or error
            what = f"the model retrained for as long cannot be kept in {path.parent} ({why})"
            warnings.warn(f"{what}; the next audit trains it again", stacklevel=2)


def shortened(original: Artifact, epochs: float | None) -> Artifact:
    """Return the original as if its recipe had had fewer epochs, for retraining with its whole schedule shortened.

    Args:
        original: Not changed; its weights are shared.
        epochs: How many, of all its trainings together; None changes nothing. The milestones of a step schedule move
            with them.
    """
    whole = sum(recipe.epochs for recipe in original.record.trainings)
    if epochs is None or whole <= 0:
        return original
    return dataclasses.replace(original, record=_scaled(original.record, epochs / whole))


def _scaled(record: Record, share: float) -> Record:
    """Return a record whose trainings, and those before it, had this share of their epochs."""
    recipe = record.recipe.but(
        epochs=record.recipe.epochs * share, milestones=tuple(m * share for m in record.recipe.milestones)
    )
    parent = None if record.parent is None else _scaled(record.parent, share)
    return record.model_copy(update={"recipe": recipe, "parent": parent})


def _impossible(case: Case, forgotten: Record | None) -> str:
    """Return why nothing can be trained for as long, or an empty string."""
    if forgotten is None or "forget" not in forgotten.seconds:
        return "no record says how long forgetting took"
    if forgotten.method == Retrain.name:
        return "the model itself was retrained"
    there, here = forgotten.device.partition(":")[0], case.run.device.type
    if there != here:
        return f"forgetting was timed on {there}, and this runs on {here}"
    if isinstance(case.original.model, Ensemble):
        return "the members of an ensemble are trained apart, and how long a part of that takes is not known beforehand"
    if not any(recipe.epochs for recipe in case.original.record.trainings):
        return "the original's recipe trains for 0 epochs"
    return ""


def _steps(case: Case, seconds: float) -> tuple[int, int]:
    """Return how many steps fit into a time, at most all of the recipe's, and how many these are."""
    warm_up(case.run)
    run, original = case.run.child(), case.original
    fresh = Retrain.fresh(original.model, run)
    retain, recipes = case.split.retain, [r for r in original.record.trainings if r.epochs]
    whole = sum(Trainer(fresh, retain, r, run, stage="timing").total_steps for r in recipes)
    trainer = Trainer(fresh, retain, max(recipes, key=lambda r: r.epochs), run, stage="timing")
    trainer.advance(1)  # the first one loads and allocates
    done, size, started = 0, 1, time.perf_counter()
    while True:
        trainer.advance(size)
        done, size = done + size, 2 * size
        if case.run.device.type == "cuda":
            torch.cuda.synchronize(case.run.device)
        spent = time.perf_counter() - started
        if spent >= min(max(_SHARE * seconds, _LEAST), _MOST) or done >= trainer.total_steps:
            break
    return min(whole, int(seconds * done / spent)), whole


def _key(case: Case, seconds: float) -> str:
    """Hash all that the model depends on, but for how fast this machine is."""
    record, resolved = case.original.record, case.split.resolved
    assert resolved is not None
    content = [
        record.weights_after,
        *(recipe.model_dump(mode="json") for recipe in record.trainings),
        case.split.data.fingerprint,
        resolved.fingerprint,
        case.run.seed,
        seconds,
        case.run.device.type,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
