"""The verb `compare`: originals and references are made once, every finished cell is kept, a stopped run resumes."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.auditing.scores.score import Scores
from efface.comparing.columns import columns_of, measure
from efface.comparing.keys import Keys
from efface.comparing.plan import ORIGINAL, Cell, Plan, read_plan
from efface.comparing.results import Comparison
from efface.comparing.store import Store
from efface.data import Data, load
from efface.data.mapped import mapped_data
from efface.errors import ForgettingWarning, InputError, explain, nearest
from efface.files import held, remove_drafts
from efface.references.jobs import Retraining
from efface.running.engines import Engine, Failure, Outcome, Task, in_processes, one_by_one, over_ray
from efface.running.progress import Progress
from efface.verbs.audit import audit
from efface.verbs.forget import forget
from efface.verbs.train import train

__all__ = ["compare"]

FINISHED = ".cells"


def compare(
    plan: Plan | str | Path,
    *,
    out: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
    fresh: bool = False,
    device: str = "auto",
    engine: Engine = "local",
    workers: int = 1,
    address: str | None = None,
    cells: str | Path | None = None,
    table: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Run a grid of methods, requests and seeds, and write results.csv, results.parquet, table.md and plan.json.

    A cell that fails is a row with its error, and is tried again by the next run.

    Args:
        plan: A plan, or the path of its YAML file.
        out: Folder for results; `results/NAME` beside the plan's file by default.
        root: Data root.
        download: Let torchvision fetch what is missing.
        fresh: Compute finished cells again; originals and references are kept.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        engine: `local` (this process, or several on this machine), or `ray`.
        workers: Jobs at once; with more than one, or over Ray, each has one thread. Times are then not comparable with
            those of one worker.
        address: Of a running Ray cluster; a local one is started if none is given.
        cells: Folder of finished cells, originals and references; OUT/.cells by default. Plans may share one.
        table: Compute nothing; write tables and figures of what is finished.
        progress: Where to show progress.

    Raises:
        InputError: The plan does not fit, the folder holds another plan's results, or no original can be trained.

    Example:
        >>> import efface, tempfile, pathlib
        >>> plan = '''
        ... name: small
        ... data: {source: digits}
        ... model: {build: mlp}
        ... recipe: {lr: 0.1, epochs: 1, batch_size: 64}
        ... requests: [{classes: [3]}]
        ... methods: [{method: logit-mask}]
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "small.yaml"
        ...     _ = file.write_text(plan)
        ...     table = efface.compare(file)
        >>> sorted(table.frame["method"])
        ['logit-mask']
    """
    if isinstance(plan, Plan):
        if out is None:
            raise InputError("a plan made in Python has no file to put results beside; give `out`")
    else:
        path = Path(plan)
        plan = read_plan(path)
        out = path.parent / "results" / plan.name if out is None else out
    if engine not in get_args(Engine):
        raise InputError(f"unknown engine {engine!r}. {nearest(engine, get_args(Engine))}")
    if address is not None and engine != "ray":
        raise InputError(f"the address {address!r} is of a Ray cluster; say engine ray, or leave it out")
    folder, progress = Path(out), progress or Progress()
    _check_folder(folder, plan)
    grid = plan.cells()
    data = load(plan.data.source, None if root is None else Path(root) / plan.data.path, download, **plan.data.options)
    keys, store = Keys(plan, data.fingerprint), Store(folder / FINISHED if cells is None else Path(cells))
    with ExitStack() as stack:
        for place in {folder.absolute(), store.folder.absolute()}:
            stack.enter_context(held(place, progress.say))
            remove_drafts(place)
        missing = [] if table else [c for c in grid if fresh or not store.finished(keys.cell(c))]
        if reused := len(grid) - len(missing):
            progress.say(f"{reused} of {len(grid)} cells were finished before")
        work = _Work(plan, data, keys, store, device, progress)
        failures = _run(work, missing, engine, workers, address)
        rows = [_row(work, cell, failures) for cell in grid]
        _raise_if_nothing(failures, rows)
        comparison = Comparison.of(plan, rows)
        comparison.reused = reused
        comparison.write(folder)
    return comparison


@dataclass(frozen=True)
class _Work:
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


@dataclass(frozen=True)
class _Original:
    """Train what the cells of one seed and preparation start from; `known` where it has been made before."""

    cell: Cell
    known: Artifact | None = None


@dataclass(frozen=True)
class _Reference:
    """Retrain without a request's data, for all methods."""

    cell: Cell
    number: int
    known: Artifact | None = None


Job = _Original | _Reference | Cell

Model = Path | Artifact


def _run(work: _Work, missing: Sequence[Cell], engine: Engine, workers: int, address: str | None) -> dict[str, Failure]:
    """Do what is missing, keep it, and return why what failed did, by key of the task."""
    tasks = _tasks(dataclasses.replace(work, shared=engine == "local"), missing)
    failures: dict[str, Failure] = {}
    if not tasks:
        return failures
    jobs = {task.key: task.job for task in tasks}
    outcomes = _outcomes(work, tasks, engine, workers, address)
    for outcome in work.progress.track(outcomes, f"compare {work.plan.name}", len(tasks)):
        job = jobs[outcome.key]
        if outcome.failure is not None:
            failures[outcome.key] = outcome.failure
            if isinstance(job, Cell):
                row = _empty(job) | {"refused": outcome.failure.words}
                work.store.keep_failure(work.keys.cell(job), row)
        elif isinstance(job, Cell):
            result, report = outcome.value
            work.store.keep(work.keys.cell(job), result, report)
        elif isinstance(outcome.value, Artifact):
            work.store.save(outcome.value, _place(work, job))
    return failures


def _outcomes(
    work: _Work, tasks: Sequence[Task], engine: Engine, workers: int, address: str | None
) -> Iterator[Outcome]:
    if engine == "local" and (workers == 1 or len(tasks) < 3):  # an original and its cell follow one another
        return one_by_one(_do, tasks, work)
    quiet = dataclasses.replace(work, progress=Progress(), shared=engine == "local")
    if engine == "local":
        return in_processes(_do, tasks, dataclasses.replace(quiet, data=mapped_data(work.data)), workers)
    gpu = work.device.startswith("cuda") or (work.device == "auto" and torch.cuda.is_available())
    return over_ray(_do, tasks, quiet, workers, gpu=gpu, address=address)


def _tasks(work: _Work, missing: Sequence[Cell]) -> list[Task]:
    """Return the cells that are missing, and before them the originals and references that they stand on."""
    tasks: dict[str, Task] = {}

    def known(job: _Original | _Reference) -> Artifact | None:
        place = _place(work, job)
        return work.store.load(place) if not work.shared and place.is_dir() else None

    for cell in sorted(missing, key=work.keys.original):
        original = _Original(cell)
        first = f"original {work.keys.original(cell)}"
        tasks.setdefault(first, Task(first, dataclasses.replace(original, known=known(original))))
        after = [first]
        for number in range(work.plan.references):
            reference = _Reference(cell, number)
            name = f"reference {number} of {work.keys.references(cell)}"
            if name not in tasks:
                tasks[name] = Task(name, dataclasses.replace(reference, known=known(reference)), (first,))
            after.append(name)
        # Two rows may ask for the same; one cell serves both.
        tasks.setdefault(work.keys.cell(cell), Task(work.keys.cell(cell), cell, tuple(after)))
    return list(tasks.values())


def _do(work: _Work, job: Job, values: Sequence[Model]) -> Any:
    """Do one job; models are artifacts, or folders of the store where jobs see it."""
    if isinstance(job, Cell):
        original, *references = (_loaded(work, v) for v in values)
        return _one(work, job, original, references)
    if job.known is not None:
        return job.known
    place = _place(work, job)
    if work.shared and place.is_dir():
        return place
    made = _trained(work, job.cell) if isinstance(job, _Original) else _retrained(work, job, _loaded(work, values[0]))
    if work.shared:
        return work.store.save(made, place)
    made.model.cpu()
    return dataclasses.replace(made, parent=None)


def _place(work: _Work, job: _Original | _Reference) -> Path:
    if isinstance(job, _Original):
        return work.store.original(work.keys.original(job.cell))
    return work.store.reference(work.keys.references(job.cell), job.number)


def _loaded(work: _Work, model: Model) -> Artifact:
    return model if isinstance(model, Artifact) else work.store.load(model)


def _trained(work: _Work, cell: Cell) -> Artifact:
    plan = work.plan
    return train(
        plan.model,
        work.data,
        method=cell.train.method,
        settings=cell.train.settings or None,
        recipe=plan.recipe.but(seed=cell.seed),
        validation=plan.data.validation,
        device=work.device,
        progress=work.progress,
    )


def _retrained(work: _Work, job: _Reference, original: Artifact) -> Artifact:
    """Retrain with the seed that `train --references` gives this number, so that both make the same models."""
    bare = dataclasses.replace(original, memory={}, parent=None)
    case = Case.of(bare, work.data, job.cell.request, device=work.device, progress=work.progress)
    seed = case.run.number(f"reference {job.number}")
    return Retraining(job.number, seed).make(bare, case.split, case.run.child(seed))


def _one(
    work: _Work, cell: Cell, original: Artifact, references: Sequence[Artifact]
) -> tuple[dict[str, Any], str | None]:
    """Return one cell's result and its audit as JSON; a method that refuses leaves its reason in place of scores."""
    plan, device, progress = work.plan, work.device, work.progress
    case = Case.of(original, work.data, cell.request, device=device, progress=progress)
    result = _empty(cell) | {
        "train_seconds": original.record.seconds["train"],
        "device": str(case.run.device),
        "threads": torch.get_num_threads(),
        "versions": original.record.versions,
    }
    made: Artifact | None = None
    if cell.method != ORIGINAL:
        method, settings = cell.method, cell.settings
        try:
            with warnings.catch_warnings(action="ignore", category=ForgettingWarning):  # they stand in the notes
                made = forget(
                    original,
                    work.data,
                    cell.request,
                    method=method,
                    settings=settings,
                    device=device,
                    progress=progress,
                )
        except InputError as error:
            return result | {"refused": str(error)}, None
        result |= {"seconds": made.record.seconds["forget"], "notes": list(made.record.notes)}
    report: str | None = None
    if "audit" in plan.measures:
        found = audit(
            made or original.model,
            work.data,
            cell.request,
            original=original,
            retrained=list(references) or False,
            settings=plan.audit.model_copy(update={"retain_samples": plan.sampled}),
            device=device,
            progress=progress,
        )
        row: Scores = found.row(found.candidate).scores
        scores, report = columns_of(row, by_class=bool(case.split.forget_classes)) | row, found.to_json()
        result |= {"level": found.level, "outcome": found.verdict.outcome}
    else:
        model, before = (case.run.copied(m) for m in ((made or original).model, original.model))
        scores = measure(model, before, case.split, case.run, plan.measures, plan.sampled)
    return result | {"scores": {k: s.model_dump(mode="json", exclude_defaults=True) for k, s in scores.items()}}, report


def _empty(cell: Cell) -> dict[str, Any]:
    """Return what is known of a cell before it is computed."""
    return {
        "entry": cell.entry,
        "method": cell.method,
        "settings": cell.settings,
        "request": cell.request.describe(),
        "seed": cell.seed,
        "seconds": None,
        "train_seconds": None,
        "notes": [],
        "refused": "",
        "scores": {},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _row(work: _Work, cell: Cell, failures: Mapping[str, Failure]) -> dict[str, Any]:
    """Return a cell's result under its own row's name, or why there is none."""
    key = work.keys.cell(cell)
    result = work.store.result(key) or _empty(cell) | {"refused": "not computed yet"}
    if key in failures:
        result = _empty(cell) | {"refused": failures[key].words}
    return result | {"entry": cell.entry}


def _raise_if_nothing(failures: Mapping[str, Failure], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise the first original's error where nothing at all could be computed because of it."""
    if not any(row["scores"] for row in rows):
        for key, failure in failures.items():
            if key.startswith("original ") and failure.error is not None:
                raise failure.error


def _check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder with another plan's results; a changed plan of the same name replaces its own."""
    file = folder / "plan.json"
    if not file.is_file():
        return
    try:
        name = Plan.model_validate_json(file.read_bytes()).name
    except ValidationError as error:
        # Plans of other versions may have other fields; their name is what counts.
        try:
            name = json.loads(file.read_bytes())["name"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} is damaged: {explain(error)}") from None
    if name != plan.name:
        raise InputError(f"{folder} holds the results of the plan {name!r}; give {plan.name!r} a folder of its own")
