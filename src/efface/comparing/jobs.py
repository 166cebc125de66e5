"""The jobs of a grid: originals first, then what is retrained, then cells; each result is kept as it comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from efface.artifact.artifact import Artifact
from efface.comparing.keys import Keys
from efface.comparing.plan import Cell, Plan
from efface.comparing.rows import unmeasured
from efface.comparing.store import Store
from efface.data import Data
from efface.data.mapped import mapped_data
from efface.running.engines import Engine, Failure, Outcome, Task, in_processes, one_by_one, over_ray
from efface.running.progress import Progress

__all__ = ["Job", "Model", "Original", "Reference", "Work", "run_jobs"]


@dataclass(frozen=True)
class Work:
    """What every job of a grid needs.

    Attributes:
        plan: What is compared.
        data: Loaded once.
        keys: Digests.
        store: Where results go.
        device: As asked for.
        progress: Where to show it; nowhere in other processes.
        shared: Whether jobs see the store's folder; models travel with the results where not.
    """

    plan: Plan
    data: Data
    keys: Keys
    store: Store
    device: str
    progress: Progress
    shared: bool = True

    def place(self, job: Original | Reference) -> Path:
        """Return the folder of the store where a job's model is kept."""
        if isinstance(job, Original):
            return self.store.original(self.keys.original(job.cell))
        return self.store.reference(self.keys.references(job.cell), job.number)

    def loaded(self, model: Model) -> Artifact:
        """Return what a job made, from its folder where it lies in one."""
        return model if isinstance(model, Artifact) else self.store.load(model)


@dataclass(frozen=True)
class Original:
    """Train what the cells of one seed and preparation start from; `known` where it has been made before."""

    cell: Cell
    known: Artifact | None = None


@dataclass(frozen=True)
class Reference:
    """Retrain without a request's data, for all methods."""

    cell: Cell
    number: int
    known: Artifact | None = None


Job = Original | Reference | Cell

Model = Path | Artifact


def run_jobs(
    do: Callable[[Work, Job, Sequence[Model]], Any],
    work: Work,
    missing: Sequence[Cell],
    engine: Engine,
    workers: int,
    address: str | None,
) -> dict[str, Failure]:
    """Do what is missing, keep it, and return why what failed did, by key of the task; originals' begin so.

    Args:
        do: Does one job, given what the jobs before it made; a function of a module, for other processes find it there.
        work: What every job needs.
        missing: The cells to compute.
        engine: `local` or `ray`.
        workers: Jobs at once.
        address: Of a running Ray cluster.
    """
    tasks = _tasks(dataclasses.replace(work, shared=engine == "local"), missing)
    failures: dict[str, Failure] = {}
    if not tasks:
        return failures
    jobs = {task.key: task.job for task in tasks}
    outcomes = _outcomes(do, work, tasks, engine, workers, address)
    for outcome in work.progress.track(outcomes, f"compare {work.plan.name}", len(tasks)):
        job = jobs[outcome.key]
        if outcome.failure is not None:
            failures[outcome.key] = outcome.failure
            if isinstance(job, Cell):
                row = unmeasured(job) | {"refused": outcome.failure.words}
                work.store.keep_failure(work.keys.cell(job), row)
        elif isinstance(job, Cell):
            result, report = outcome.value
            work.store.keep(work.keys.cell(job), result, report)
        elif isinstance(outcome.value, Artifact):
            work.store.save(outcome.value, work.place(job))
    return failures


def _outcomes(
    do: Callable[[Work, Job, Sequence[Model]], Any],
    work: Work,
    tasks: Sequence[Task],
    engine: Engine,
    workers: int,
    address: str | None,
) -> Iterator[Outcome]:
    if engine == "local" and (workers == 1 or len(tasks) < 3):  # an original and its cell follow one another
        return one_by_one(do, tasks, work)
    quiet = dataclasses.replace(work, progress=Progress(), shared=engine == "local")
    if engine == "local":
        return in_processes(do, tasks, dataclasses.replace(quiet, data=mapped_data(work.data)), workers)
    gpu = work.device.startswith("cuda") or (work.device == "auto" and torch.cuda.is_available())
    return over_ray(do, tasks, quiet, workers, gpu=gpu, address=address)


def _tasks(work: Work, missing: Sequence[Cell]) -> list[Task]:
    """Return the cells that are missing, and before them the originals and references that they stand on."""
    tasks: dict[str, Task] = {}

    def known(job: Original | Reference) -> Artifact | None:
        place = work.place(job)
        return work.store.load(place) if not work.shared and place.is_dir() else None

    def trained(cell: Cell) -> str:
        """Add the task of a cell's original, and of the one that it goes on from."""
        before = () if cell.plain is None else (trained(cell.plain),)
        original, name = Original(cell), f"original {work.keys.original(cell)}"
        tasks.setdefault(name, Task(name, dataclasses.replace(original, known=known(original)), before))
        return name

    for cell in sorted(missing, key=work.keys.original):
        first = trained(cell)
        after = [first]
        for number in range(work.plan.references):
            reference = Reference(cell, number)
            name = f"reference {number} of {work.keys.references(cell)}"
            if name not in tasks:
                tasks[name] = Task(name, dataclasses.replace(reference, known=known(reference)), (first,))
            after.append(name)
        # Two rows may ask for the same; one cell serves both.
        tasks.setdefault(work.keys.cell(cell), Task(work.keys.cell(cell), cell, tuple(after)))
    return list(tasks.values())
