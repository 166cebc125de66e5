"""Members of an ensemble trained apart: one by one here, in processes, or over Ray, with the same bits everywhere.

On a CPU each is trained with one thread, whatever the number of cores: the last bits of a sum may depend on it.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from torch import Tensor, nn

from efface.data.data import Data
from efface.data.mapped import mapped_data, not_sendable
from efface.data.touched import count_times, tallying
from efface.errors import InputError
from efface.files import remove_drafts
from efface.mechanisms.shards import Slices, States, kept_slices, train_slices
from efface.running import engines
from efface.running.run import Backend, Precision, Run
from efface.running.threads import one_thread
from efface.training.loop import Loss
from efface.training.recipe import Recipe

__all__ = ["Member", "spread", "train_members"]

KEPT = "with --checkpoints FOLDER (checkpoints=...) finished slices are kept, and the same command goes on from there"


@dataclass(frozen=True, eq=False)
class Member:
    """One training.

    Attributes:
        stage: Names it, for its draws; unique.
        model: Trained in place; its state is that before slice `start`.
        lists: What remains of its shard.
        start: First slice to train with.
    """

    stage: str
    model: nn.Module
    lists: Slices
    start: int = 0


@dataclass(frozen=True)
class _Shared:
    """What all trainings have in common, as it is sent to a worker."""

    data: Data
    recipe: Recipe
    loss: Loss | None
    seed: int
    device: str
    precision: Precision
    checkpoints: Path | None
    purpose: str


@dataclass(frozen=True)
class _Trained:
    """What one training gives."""

    states: States
    rows: list[dict[str, Any]]
    notes: list[str]
    end: dict[str, Tensor] = field(default_factory=dict)
    times: np.ndarray | None = None


def train_members(
    members: Sequence[Member], data: Data, recipe: Recipe, run: Run, *, loss: Loss | None = None
) -> list[States]:
    """Train members in place, see `train_slices`, where the run's `backend` says.

    Args:
        members: With one architecture.
        data: Whose training samples their lists name.
        recipe: Its epochs are divided among the slices.
        run: Its seed is that of the original training. With `checkpoints`, finished slices lie in files; they are
            added to its `interim`, and go when the artifact is saved.
        loss: As in `fit`; a function of a module, so that processes find it.

    Returns:
        Each member's states after its slices but the last, by slice.

    Raises:
        InputError: The model or the data cannot be sent to the processes asked for, or a process died twice.
    """
    if run.checkpoints is not None and run.checkpoints.is_dir():
        remove_drafts(run.checkpoints)  # of writings that were killed
    run.interim += [path for m in members for path in _files(m, data, recipe, run)]
    how, workers = _backend(members, data, run)
    made: dict[str, _Trained] = {}
    if how in ("serial", "auto"):
        label, started = f"{len(members)} members", time.perf_counter()
        for member in run.track(members, label, len(members)):
            made[member.stage] = _here(member, data, recipe, run, loss)
            left = len(members) - len(made)
            if how == "auto" and left > 1 and left * (time.perf_counter() - started) / len(made) >= engines.START_UP:
                break
    rest = [m for m in members if m.stage not in made]
    if rest:
        made |= _elsewhere(rest, data, recipe, run, loss, "ray" if how == "ray" else "processes", workers)
    for member in members:
        run.history.rows.extend(made[member.stage].rows)
        run.notes.extend(made[member.stage].notes)
    return [made[m.stage].states for m in members]


def spread(run: Run, backend: str, workers: int | None, *, apart: bool) -> None:
    """Let a run train members where and as many at once as was asked for.

    Args:
        run: Changed.
        backend: `auto`, `processes`, `serial` or `ray`.
        workers: Most at once; None for one per core.
        apart: Whether there are members to train.

    Raises:
        InputError: Another name, no worker, or no members.
    """
    known = get_args(Backend)
    if backend not in known:
        raise InputError(
            f"members are trained apart by backend {', '.join(known)}, not {backend!r}; choose one of them"
        )
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers cannot train anything; at least 1 is needed")
    if not apart and (backend != "auto" or workers is not None):
        raise InputError(
            "a backend and workers are for references, and for methods that train members apart (sisa, arcane); leave "
            "them out"
        )
    run.backend, run.workers = cast("Backend", backend), workers or 0


def _here(member: Member, data: Data, recipe: Recipe, run: Run, loss: Loss | None) -> _Trained:
    """Train a member in this process."""
    own = run.child()
    with one_thread() if run.device.type == "cpu" else nullcontext():
        model, stage = member.model, member.stage
        states = train_slices(model, data, member.lists, recipe, own, stage, start=member.start, loss=loss)
    return _Trained(states, own.history.rows, own.notes)


def _elsewhere(
    members: Sequence[Member],
    data: Data,
    recipe: Recipe,
    run: Run,
    loss: Loss | None,
    how: Literal["processes", "ray"],
    workers: int,
) -> dict[str, _Trained]:
    """Train members in processes or over Ray, and bring back what they are then."""
    sent = mapped_data(data) if how == "processes" else data
    shared = _Shared(sent, recipe, loss, run.seed, run.device.type, run.precision, run.checkpoints, run.purpose)
    tasks = [engines.Task(m.stage, m) for m in members]
    if how == "ray":
        outcomes = engines.over_ray(_there, tasks, shared, workers, gpu=run.device.type == "cuda")
    else:
        here = None if sent.train is data.train else dataclasses.replace(shared, data=_beside(data))
        outcomes = engines.in_processes(_there, tasks, shared, workers, meanwhile=here)
    made = {}
    for outcome in run.track(outcomes, f"{len(members)} members ({how})", len(members)):
        made[outcome.key] = outcome.result(KEPT)
    for member in members:
        trained = made[member.stage]
        member.model.load_state_dict(trained.end)
        member.model.to(run.device).eval()
        count_times(data.train, trained.times)
    run.note(f"{len(members)} members were trained {_WORDS[how]}, one thread each: seconds are those of all together")
    return made


_WORDS = {"processes": "side by side in processes", "ray": "side by side over Ray"}


def _beside(data: Data) -> Data:
    """Return the same data as other objects, so that reading it is counted by `_there` alone."""
    return dataclasses.replace(data, train=copy.copy(data.train), test=copy.copy(data.test))


def _there(shared: _Shared, member: Member, _: Sequence[Any]) -> _Trained:
    """Train a member in a worker."""
    run = Run(shared.seed, shared.device, shared.precision, checkpoints=shared.checkpoints)
    run.purpose = shared.purpose
    with tallying(shared.data.train) as times:
        states = train_slices(
            member.model, shared.data, member.lists, shared.recipe, run, member.stage, start=member.start,
            loss=shared.loss,
        )  # fmt: skip
    end = {k: v.detach().cpu() for k, v in member.model.state_dict().items()}
    return _Trained(states, run.history.rows, run.notes, end, times.counts)


def _backend(members: Sequence[Member], data: Data, run: Run) -> tuple[str, int]:
    """Return where to train, and with how many workers: `auto` starts here, and goes on in processes if that pays."""
    workers = min(run.workers or engines.cores(), max(len(members), 1))
    if run.backend in ("serial", "ray") or not members:
        return ("serial" if not members else run.backend), workers
    on_gpu = run.device.type != "cpu"
    why = (
        f"processes train on CPU cores, but the device is {run.device}"
        if on_gpu
        else not_sendable(members[0].model, data)
    )
    if run.backend == "processes" and why:
        raise InputError(f"members cannot be trained in processes: {why}. Use backend serial")
    return ("serial" if why or (workers == 1 and run.backend == "auto") else run.backend), workers


def _files(member: Member, data: Data, recipe: Recipe, run: Run) -> list[Path]:
    """Return where finished slices of a member lie, if they are kept."""
    kept = kept_slices(member.model, data, member.lists, recipe, run, member.stage, member.start)
    return [] if kept is None else [kept.path(j) for j in range(member.start, len(member.lists))]
