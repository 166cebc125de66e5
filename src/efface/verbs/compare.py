"""The verb `compare`: originals and references are made once, every finished cell is kept, a stopped run resumes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.auditing.plots import course
from efface.auditing.rows import AS_LONG
from efface.auditing.scores.score import Scores
from efface.comparing.columns import columns_of, measure
from efface.comparing.jobs import Job, Model, Original, Reference, Work, run_jobs
from efface.comparing.keys import Keys, content_of
from efface.comparing.own import measured, own_measures
from efface.comparing.plan import ORIGINAL, Cell, Plan, check_folder, read_plan
from efface.comparing.results import Comparison
from efface.comparing.rows import raise_if_nothing, row_of, unmeasured
from efface.comparing.store import Store
from efface.data import load
from efface.errors import ForgettingWarning, InputError, nearest
from efface.files import check_fillable, held, remove_drafts
from efface.methods.catalogue import named
from efface.references.as_long import retrained_as_long
from efface.references.jobs import Retraining
from efface.running.engines import Engine
from efface.running.progress import Progress, shown
from efface.verbs.audit import audit
from efface.verbs.forget import forget
from efface.verbs.train import train
from efface.words import counted

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
    progress: Progress | bool | None = None,
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
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

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
    folder, progress = check_fillable(out), shown(progress)
    check_folder(folder, plan)
    grid = plan.cells()
    own_measures(plan.measures)  # refused before any work
    data = load(plan.data.source, None if root is None else Path(root) / plan.data.path, download, **plan.data.options)
    keys, store = Keys(plan, content_of(data)), Store(check_fillable(folder / FINISHED if cells is None else cells))
    with ExitStack() as stack:
        # Each place once and in one order, whatever path leads there: two runs at once must not wait for each other.
        for place in sorted({folder.resolve(), store.folder.resolve()}):
            stack.enter_context(held(place, progress.say))
            remove_drafts(place, below=place == store.folder.resolve())
        missing = [] if table else [c for c in grid if fresh or not store.finished(keys.cell(c))]
        if reused := len(grid) - len(missing):
            progress.say(f"{reused} of {counted(len(grid), 'cell was', 'cells were')} finished before")
        work = Work(plan, data, keys, store, device, progress)
        failures = run_jobs(_do, work, missing, engine, workers, address)
        rows = [row_of(cell, keys.cell(cell), store, failures) for cell in grid]
        raise_if_nothing(failures, rows)
        comparison = Comparison.of(plan, rows)
        comparison.reused = reused
        comparison.write(folder)
    return comparison


def _do(work: Work, job: Job, values: Sequence[Model]) -> Any:
    """Do one job; models are artifacts, or folders of the store where jobs see it."""
    preparation = (job if isinstance(job, Cell) else job.cell).train.method
    if preparation is not None:  # one of the user's own may change the network, and rebuilds it when it is loaded
        named(preparation)
    if isinstance(job, Cell):
        original, *references = (work.loaded(v) for v in values)
        return _one(work, job, original, references)
    if job.known is not None:
        return job.known
    place = work.place(job)
    if work.shared and place.is_dir():
        return place
    before = work.loaded(values[0]) if values else None
    if isinstance(job, Original):
        made = _trained(work, job.cell, before)
    else:
        assert before is not None
        made = _retrained(work, job, before)
    if work.shared:
        return work.store.save(made, place)
    made.model.cpu()
    return dataclasses.replace(made, parent=None)


def _trained(work: Work, cell: Cell, before: Artifact | None) -> Artifact:
    plan = work.plan
    return train(
        before or plan.model,
        work.data,
        method=cell.train.method,
        settings=cell.train.settings or None,
        recipe=(cell.train.fine_tune or plan.recipe).but(seed=cell.seed),
        validation=plan.data.validation,
        device=work.device,
        progress=work.progress,
    )


def _retrained(work: Work, job: Reference, original: Artifact) -> Artifact:
    """Retrain with the seed that `train --references` gives this number, so that both make the same models."""
    bare = dataclasses.replace(original, memory={}, parent=None)
    case = Case.of(bare, work.data, job.cell.request, device=work.device, progress=work.progress)
    seed = case.run.number(f"reference {job.number}")
    return Retraining(job.number, seed).make(bare, case.split, case.run.child(seed))


def _one(
    work: Work, cell: Cell, original: Artifact, references: Sequence[Artifact]
) -> tuple[dict[str, Any], str | None]:
    """Return one cell's result and its audit as JSON; a method that refuses leaves its reason in place of scores."""
    plan, device, progress = work.plan, work.device, work.progress
    case = Case.of(original, work.data, cell.request, device=device, progress=progress)
    result = unmeasured(cell) | {
        "train_seconds": sum(step.seconds["train"] for step in original.record.chain),
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
        if (spent := made.record.spent) is not None:
            result |= {"samples": spent.touched, "peak_memory": spent.peak_memory}
    found = _scored(work, cell, case, made, original, references)
    scores = found.scores | measured(own_measures(plan.measures), made or original, case)
    result |= found.fields | {"per_class": found.per_class}
    if made is not None:
        result["course"] = course(made.record.history)
        if "A_R" in scores:  # without, there is nothing to compare with it
            result["as_long"] = _as_long(case, made, found.as_long, plan)
    written = {k: s.model_dump(mode="json", exclude_defaults=True) for k, s in scores.items()}
    return result | {"scores": written}, found.report


@dataclass(frozen=True)
class _Scored:
    """What was measured of one cell.

    Attributes:
        scores: By name.
        per_class: Test accuracy in [0, 1] by class.
        fields: Further fields of the cell.
        as_long: Scores of the audit's row that was retrained for as long.
        report: The audit as JSON.
    """

    scores: Scores
    per_class: dict[str, float | None]
    fields: dict[str, Any] = field(default_factory=dict)
    as_long: Scores | None = None
    report: str | None = None


def _scored(
    work: Work, cell: Cell, case: Case, made: Artifact | None, original: Artifact, references: Sequence[Artifact]
) -> _Scored:
    plan = work.plan
    if "audit" not in plan.measures:
        model, before = (case.run.copied(m) for m in ((made or original).model, original.model))
        found = measure(model, before, case.split, case.run, plan.measures, plan.sampled)
        return _Scored(found.scores, _by_name(work, found.per_class))
    said = audit(
        made or original.model,
        work.data,
        cell.request,
        original=original,
        retrained=list(references) or False,
        settings=plan.audit.model_copy(update={"retain_samples": plan.sampled}),
        device=work.device,
        progress=work.progress,
    )
    row = said.row(said.candidate).scores
    return _Scored(
        columns_of(row, by_class=bool(case.split.forget_classes)) | row,
        _by_name(work, said.plots.per_class.get(said.candidate, ())),
        {"level": said.level, "outcome": said.verdict.outcome, "useful": said.verdict.useful},
        {r.name: r.scores for r in said.rows}.get(AS_LONG),
        said.to_json(),
    )


def _by_name(work: Work, shares: Sequence[float | None]) -> dict[str, float | None]:
    return dict(zip(work.data.classes, shares, strict=False))  # no shares where the test data was not asked


def _as_long(case: Case, made: Artifact, known: Scores | None, plan: Plan) -> dict[str, Any]:
    """Return what retraining for as long as a cell's method took gives: its own seconds, A_R and E_F, or why not.

    Args:
        case: Of the cell.
        made: What the method made.
        known: Scores of the audit's row, if the audit has one.
        plan: What is compared.
    """
    if known is not None:
        scores, seconds = columns_of(known, by_class=bool(case.split.forget_classes)), known["seconds"].value
    else:
        other = retrained_as_long(case, made.record)
        if isinstance(other, str):
            return {"missing": other}
        model, before = (case.run.copied(m) for m in (other.model, case.original.model))
        scores = measure(model, before, case.split, case.run, ("accuracy",), plan.sampled).scores
        seconds = other.record.seconds["forget"]
    return {"seconds": seconds, "A_R": scores["A_R"].value, "E_F": scores["E_F"].value}
