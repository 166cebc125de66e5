"""Which engine makes which series of references: one by one, in processes, side by side as one network, or over Ray."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from efface.artifact.artifact import RECORD, Artifact
from efface.data import Split
from efface.data.epoch import Epoch
from efface.data.mapped import mapped, not_sendable
from efface.errors import InputError, nearest
from efface.methods.applying import forgotten
from efface.methods.retrain import Retrain
from efface.models.ensemble import Ensemble
from efface.references.jobs import Job, Retraining
from efface.running import engines
from efface.running.extras import import_ray
from efface.running.run import Run
from efface.training.side_by_side import fit_together, stackable

__all__ = ["BACKENDS", "Backend", "chosen", "one_by_one", "over_ray", "processes", "side_by_side"]

Backend = Literal["auto", "processes", "vmap", "serial", "ray"]
BACKENDS: tuple[Backend, ...] = ("auto", "processes", "vmap", "serial", "ray")

SMALL = 2_000_000
"""Parameters up to which a network is too small to keep several cores, or a GPU, busy by itself."""

AT_ONCE = 128
"""Most models side by side; fewer where memory does not allow."""

KEPT = "finished models are kept, start again to go on"

BESIDE = "seconds count while other models were trained beside this one; they are no time for retraining alone"

Made = tuple[Job, Artifact | None]
"""A finished job; no artifact where a worker has saved it already."""


def chosen(backend: Backend, jobs: Sequence[Job], original: Artifact, split: Split, run: Run, workers: int) -> Backend:
    """Return the backend that `auto` stands for here, or check the one asked for.

    Small networks: `vmap` on a GPU, if they can be stacked; `processes` on several CPU cores. Large ones: `serial`.

    Raises:
        InputError: An unknown name, Ray is missing, or the model cannot be trained that way; says why.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown backend {backend!r}. {nearest(backend, BACKENDS)}")
    if backend == "processes" and run.device.type != "cpu":
        raise InputError(
            f"processes train on CPU cores, but the device is {run.device}; use vmap, serial or device cpu"
        )
    small = sum(p.numel() for p in original.model.parameters()) <= SMALL
    if backend == "vmap" or (backend == "auto" and small and run.device.type == "cuda"):
        why = _not_together(jobs, original, split, run)
        if backend == "vmap" and why:
            raise InputError(f"these models cannot be trained side by side: {why}. Use another backend")
        return "serial" if why else "vmap"
    if backend == "processes" or (backend == "auto" and small and workers > 1 and len(jobs) > 1):
        why = not_sendable(original.model, split.data)
        if backend == "processes" and why:
            raise InputError(f"the model or the data cannot be sent to another process: {why}. Use backend serial")
        return "serial" if why else "processes"
    if backend == "ray":
        import_ray()
    return "serial" if backend == "auto" else backend


def one_by_one(jobs: Sequence[Job], original: Artifact, split: Split, run: Run) -> Iterator[Made]:
    """Do the jobs here, each with all threads; only these times may be compared with a method's."""
    for job in jobs:
        yield job, job.make(original, split, run.child(job.seed))


def side_by_side(jobs: Sequence[Job], original: Artifact, split: Split, run: Run) -> Iterator[Made]:
    """Retrain many models as one batched network; in smaller groups where memory does not allow all at once."""
    todo, size = list(jobs), AT_ONCE
    while todo:
        group = todo[:size]
        runs = [run.child(job.seed) for job in group]
        started = time.perf_counter()
        models: list[nn.Module] | None = None
        try:
            models = [Retrain.fresh(original.model, r) for r in runs]
            for recipe in original.record.trainings:
                fit_together(models, split.retain, recipe, runs, stage=Retrain.name)
        except torch.OutOfMemoryError:
            models = None
        if models is None:  # outside of the handler, whose traceback holds on to the tensors
            if len(group) == 1:
                raise InputError("one model alone does not fit into the GPU's memory; use smaller batches")
            size = len(group) // 2
            torch.cuda.empty_cache()
            continue
        seconds = {"side by side": (time.perf_counter() - started) / len(group)}
        todo = todo[len(group) :]
        for job, model, own in zip(group, models, runs, strict=True):
            own.notes.append(f"trained side by side with {len(group) - 1} others: its {BESIDE}")
            yield job, forgotten(Retrain(), original, model, split, own, seconds)


def processes(
    jobs: Sequence[Job], original: Artifact, split: Split, run: Run, folder: Path, workers: int
) -> Iterator[Made]:
    """Do the jobs in processes with one thread each; inputs in memory are shared, not copied.

    Each process saves what it made, so that a stopped run keeps it.

    Raises:
        InputError: A job's process died twice.
    """
    state = (original, mapped(split), run.precision, folder)
    for outcome in engines.in_processes(_saved, _tasks(jobs), state, min(workers, len(jobs))):
        yield outcome.result(KEPT), None


def _saved(state: tuple[Artifact, Split, Any, Path], job: Job, _: Sequence[Any]) -> Job:
    original, split, precision, folder = state
    if (folder / job.folder / RECORD).is_file():  # made by a first try of this job, whose process died afterwards
        return job
    artifact = job.make(original, split, Run(seed=job.seed, device="cpu", precision=precision))
    _beside(artifact, "trained in a process with one thread, beside others").save(folder / job.folder)
    return job


def over_ray(jobs: Sequence[Job], original: Artifact, split: Split, run: Run, workers: int) -> Iterator[Made]:
    """Do the jobs on a Ray cluster (the one that is connected, or a local one); models come back and are saved here.

    Each task takes one CPU core, or one GPU where the run is on GPUs.

    Args:
        jobs: What to make.
        original: The model that the request is addressed to.
        split: The data under the request; sent to each node once.
        run: Device kind and precision.
        workers: Most tasks at once.

    Raises:
        InputError: A job's worker died twice.
    """
    state = (original, split, run.device.type, run.precision)
    for outcome in engines.over_ray(_remote, _tasks(jobs), state, workers, gpu=run.device.type == "cuda"):
        yield outcome.result(KEPT)


def _remote(state: tuple[Artifact, Split, str, Any], job: Job, _: Sequence[Any]) -> Made:
    original, split, device, precision = state
    artifact = job.make(original, split, Run(seed=job.seed, device=device, precision=precision))
    artifact.model.cpu()
    return job, dataclasses.replace(_beside(artifact, "trained over Ray"), parent=None)


def _tasks(jobs: Sequence[Job]) -> list[engines.Task]:
    return [engines.Task(job.folder, job) for job in jobs]


def _beside(artifact: Artifact, how: str) -> Artifact:
    """Return an artifact whose time cannot be mistaken for that of retraining alone."""
    record = artifact.record
    seconds = {"side by side" if k == "forget" else k: v for k, v in record.seconds.items()}
    notes = (*record.notes, f"{how}: its {BESIDE}")
    return dataclasses.replace(artifact, record=record.model_copy(update={"seconds": seconds, "notes": notes}))


def _not_together(jobs: Sequence[Job], original: Artifact, split: Split, run: Run) -> str:
    if any(type(job) is not Retraining for job in jobs):
        return "only plain retraining is done so, no unlearning method"
    if isinstance(original.model, Ensemble):
        return "the members of an ensemble are trained apart"
    example, _ = next(split.retain.take(range(min(2, len(split.retain)))).batches(Epoch(2, device=run.device)))
    return stackable(Retrain.fresh(original.model, run), example)
