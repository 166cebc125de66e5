"""Running a plan: originals are trained once, every finished cell is kept, and a stopped run resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.comparing.columns import measure
from efface.comparing.plan import ORIGINAL, Cell, Plan, read_plan
from efface.comparing.results import Comparison
from efface.data import Data, load
from efface.errors import InputError
from efface.files import write_file
from efface.methods.applying import rebuilt
from efface.running.engines import Task, in_processes
from efface.running.progress import Progress
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
    workers: int = 1,
    cells: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run a grid of methods, requests and seeds, and write results.csv, table.md and plan.json.

    Args:
        plan: A plan, or the path of its YAML file.
        out: Folder for results; `results/NAME` beside the plan's file by default.
        root: Data root.
        download: Let torchvision fetch what is missing.
        fresh: Compute finished cells again; originals are kept.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        workers: Processes; each trains and forgets on its own share of seeds with one thread. Times are then not
            comparable with those of one worker.
        cells: Folder of finished cells and trained originals; OUT/.cells by default. Plans may share one.
        progress: Where to show progress.

    Raises:
        InputError: The plan does not fit; or a method cannot serve a request in it.

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
    folder = Path(out)
    grid = plan.cells()
    done = folder / FINISHED if cells is None else Path(cells)
    done.mkdir(parents=True, exist_ok=True)
    missing = [c for c in grid if fresh or not (done / f"{plan.key(c)}.json").is_file()]
    # Cells that share an original follow one another, so that it is trained once.
    missing.sort(key=plan.original_key)
    groups = [list(g) for _, g in groupby(missing, key=plan.original_key)]
    progress = progress or Progress()
    finished = (
        _in_processes(plan, groups, done, root, download, device, workers)
        if workers > 1 and len(groups) > 1
        else _here(plan, groups, done, root, download, device, progress)
    )
    for _ in progress.track(finished, f"compare {plan.name}", len(missing)):
        pass
    rows = [json.loads((done / f"{plan.key(c)}.json").read_bytes()) | {"entry": c.entry} for c in grid]
    comparison = Comparison.of(plan, rows)
    comparison.write(folder)
    return comparison


def _in_processes(
    plan: Plan, groups: list[list[Cell]], done: Path, root: str | Path | None, download: bool, device: str, workers: int
) -> Iterator[None]:
    tasks = [Task(plan.original_key(group[0]), group) for group in groups]
    for outcome in in_processes(_all_of, tasks, (plan, done, root, download, device), workers):
        if outcome.failure is not None:
            outcome.failure.raised()
        for _ in range(outcome.value):
            yield


def _all_of(state: tuple[Plan, Path, str | Path | None, bool, str], group: list[Cell], _: Sequence[Any]) -> int:
    plan, done, root, download, device = state
    return sum(1 for _ in _here(plan, [group], done, root, download, device, Progress()))


def _here(
    plan: Plan,
    groups: list[list[Cell]],
    done: Path,
    root: str | Path | None,
    download: bool,
    device: str,
    progress: Progress,
) -> Iterator[None]:
    if not groups:
        return
    data = _data(plan, root, download)
    for group in groups:
        original = _original(plan, group[0], data, done, device, progress)
        for cell in group:
            result = _one(plan, cell, original, data, device, progress)
            write_file(done / f"{plan.key(cell)}.json", json.dumps(result, indent=1))
            yield


def _data(plan: Plan, root: str | Path | None, download: bool) -> Data:
    where = None if root is None else Path(root) / plan.data.path
    return load(plan.data.source, where, download, **plan.data.options)


def _original(plan: Plan, cell: Cell, data: Data, done: Path, device: str, progress: Progress) -> Artifact:
    """Return the original that a cell starts from, trained now or by an earlier run of the plan."""
    kept = done / f"original-{plan.original_key(cell)}"
    if kept.is_dir():
        return Artifact.load(kept, trust=True, rebuild=rebuilt)
    original = train(
        plan.model,
        data,
        method=cell.train.method,
        settings=cell.train.settings or None,
        recipe=plan.recipe.but(seed=cell.seed),
        validation=plan.data.validation,
        device=device,
        progress=progress,
    )
    original.save(kept)
    return original


def _one(plan: Plan, cell: Cell, original: Artifact, data: Data, device: str, progress: Progress) -> dict[str, Any]:
    """Return one cell's result; a method that refuses or fails leaves its reason in place of scores."""
    case = Case.of(original, data, cell.request, device=device, progress=progress)
    result = {
        "entry": cell.entry,
        "method": cell.method,
        "settings": cell.settings,
        "request": cell.request.describe(),
        "seed": cell.seed,
        "seconds": None,
        "train_seconds": original.record.seconds["train"],
        "notes": [],
        "refused": "",
        "device": original.record.device,
        "threads": torch.get_num_threads(),
        "versions": original.record.versions,
        "scores": {},
    }
    model = original.model
    if cell.method != ORIGINAL:
        method, settings = cell.method, cell.settings
        try:
            made = forget(
                original, data, cell.request, method=method, settings=settings, device=device, progress=progress
            )
        except InputError as error:
            return result | {"refused": str(error)}
        model = made.model
        result |= {"seconds": made.record.seconds["forget"], "notes": list(made.record.notes)}
    scores = measure(
        case.run.copied(model), case.run.copied(original.model), case.split, case.run, plan.measures, plan.sampled
    )
    return result | {"scores": {k: s.model_dump(exclude_defaults=True) for k, s in scores.items()}}
