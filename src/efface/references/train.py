"""`train_references`: fill a folder with the models that audits of one request compare with; a stopped run resumes."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from efface.artifact.artifact import RECORD, Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.drafts import MARK, NAME
from efface.errors import InputError
from efface.files import LOCK, check_vacant, held, remove_drafts
from efface.methods.applying import recorded_settings
from efface.methods.catalogue import method_of
from efface.methods.method import Method
from efface.references.backends import Backend, Made, chosen, one_by_one, over_ray, processes, side_by_side
from efface.references.jobs import Job, Repeat, Retraining, Shadow
from efface.references.manifest import MANIFEST, Manifest, grown, write_manifest
from efface.references.references import References, load_references
from efface.request import Request
from efface.running.engines import START_UP, cores
from efface.running.progress import Progress, shown
from efface.running.run import Run
from efface.training.recipe import Recipe

__all__ = ["train_references"]


def train_references(
    original: Artifact | nn.Module,
    data: Data,
    request: Request,
    n: int,
    out: str | Path,
    *,
    repeats: int = 0,
    shadows: int = 0,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    validation: float = 0.0,
    seed: int = 0,
    backend: Backend = "auto",
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> References:
    """Retrain many models without the request's data, once for all audits of that request.

    Each model is an ordinary artifact in the folder, saved as soon as it is ready; what is there is not made again, so
    a stopped run resumes and a larger `n` adds to it. The first reference is always trained alone with all threads:
    its time is a fair one to compare with, those of models trained beside others are not.

    Args:
        original: The model that the request is addressed to: an artifact, or your own trained module.
        data: The data it was trained on.
        request: What the references must not have seen.
        n: How many; from 4 on an audit reaches level (c).
        out: Folder of the references.
        repeats: Runs of training with the data and unlearning it by `method`: with them, level (c) speaks of the
            method rather than of one run of it.
        shadows: Shadow models for U-LiRA in RULI's thirds, a multiple of 3: each record to forget is out of a third of
            them, and unlearned by `method` in another third. For methods that forget items.
        method: The unlearning method of repeats and shadows.
        settings: Its hyper-parameters.
        recipe: How your own module was trained; an artifact knows.
        validation: Fraction held out of its training; an artifact knows.
        seed: All seeds derive from it and the recipe's.
        backend: `processes` (one thread each), `vmap` (one batched network), `serial`, `ray`; `auto` chooses, see
            `efface.references.backends.chosen`.
        workers: Most processes or Ray tasks at once; one per core by default.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

    Raises:
        InputError: Numbers do not fit, a job cannot be done, or the folder holds references of something else; it says
            of what.

    Example:
        >>> import efface, tempfile
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = efface.train_references(original, data, efface.Request(classes=[3]), 1, folder, backend="serial")
        ...     len(made)
        1
    """
    case = Case.of(
        original,
        data,
        request,
        seed=seed,
        device=device,
        recipe=recipe,
        validation=validation,
        progress=shown(progress),
    )
    if n < 1 or repeats < 0 or (workers is not None and workers < 1):
        raise InputError(f"{n} references, {repeats} repeats and {workers} workers; needed: at least 1, 0 and 1")
    jobs = _jobs(case, n, repeats, shadows, None if method is None else method_of(method, settings))
    # What training left behind for forgetting is of no use to references; no need to save it with each.
    bare = Case(dataclasses.replace(case.original, memory={}, parent=None), case.split, case.run)
    workers = workers or cores()
    backends: dict[str, Backend] = {}
    for series, listed in jobs.items():
        # Only plain retraining can be batched; what unlearns beside it runs as `auto` would.
        asked = backend if series == "reference" or backend != "vmap" else "auto"
        backends[series] = chosen(asked, listed, bare.original, bare.split, bare.run, workers)
    folder = Path(out)
    if _unfinished(folder, jobs, bare):
        with held(folder, case.run.progress.say):
            remove_drafts(folder, below=True)
            write_manifest(folder, grown(_manifest(folder, bare), jobs, folder))
            _fill(folder, jobs, backends, backend, workers, bare)
    return load_references(folder, case.original.model, trust=True)


def _jobs(case: Case, n: int, repeats: int, shadows: int, unlearning: Method | None) -> dict[str, list[Job]]:
    """Return what is to be made, by series, once every job has been checked; series without a job are left out."""
    if (repeats or shadows) and unlearning is None:
        raise InputError("repeats and shadow models unlearn; name the method")
    run = case.run
    name, values = "", dict[str, Any]()
    if unlearning is not None:
        name, values = unlearning.name, recorded_settings(unlearning, case.original)
    jobs: dict[str, list[Job]] = {
        "reference": [Retraining(k, run.number(f"reference {k}")) for k in range(n)],
        f"unlearned-{name}": [Repeat(k, run.number(f"repeat {k}"), name, values) for k in range(repeats)],
        f"shadow-{name}": [
            Shadow(k, run.number(f"shadow {k}"), name, values, out, unlearned)
            for k, (out, unlearned) in enumerate(_dealt(case.split, shadows, run))
        ],
    }
    for job in (job for listed in jobs.values() for job in listed):
        job.check(case.original, case.split)
    return {series: listed for series, listed in jobs.items() if listed}


def _unfinished(folder: Path, jobs: Mapping[str, list[Job]], case: Case) -> bool:
    """Return whether there is something to do in a folder, and check that it can be done there.

    Raises:
        InputError: It holds something else, or what is missing cannot be written.
    """
    if not folder.is_dir():
        check_vacant(folder, overwrite=False)  # after it has put back what a killed process left aside
    manifest = _manifest(folder, case)
    if not folder.is_dir() or os.access(folder, os.W_OK | os.X_OK):
        return True
    missing = [job.folder for listed in jobs.values() for job in listed if not (folder / job.folder / RECORD).is_file()]
    if missing or grown(manifest, jobs, folder) != manifest:
        raise InputError(
            f"{folder} cannot be written to, and these are not in it: {', '.join(missing) or 'the jobs asked for'}; "
            "choose another folder, or ask for fewer"
        )
    return False


def _fill(
    folder: Path,
    jobs: Mapping[str, list[Job]],
    backends: Mapping[str, Backend],
    asked: Backend,
    workers: int,
    case: Case,
) -> None:
    """Make what is not there yet, series by series."""
    bare, split, run = case.original, case.split, case.run
    for series, listed in jobs.items():
        todo = [job for job in listed if not (folder / job.folder / RECORD).is_file()]
        how = backends[series]
        if series == "reference" and todo and todo[0].number == 0 and how != "serial":
            _save(one_by_one(todo[:1], bare, split, run), folder, run, "first reference, timed alone", 1)
            todo = todo[1:]
        if how == "processes" and asked == "auto" and _seconds_of_one(folder) * len(todo) < START_UP:
            how = "serial"
        if todo:
            label = f"{series} ({len(todo)} models, {how})"
            _save(_made(how, todo, bare, split, run, folder, workers), folder, run, label, len(todo))


def _seconds_of_one(folder: Path) -> float:
    """Return how long the first reference took, alone; infinitely long if that is not known."""
    first = folder / "reference-000"
    return Artifact.read_record(first).seconds.get("forget", math.inf) if (first / RECORD).is_file() else math.inf


def _made(
    how: Backend, jobs: Sequence[Job], original: Artifact, split: Split, run: Run, folder: Path, workers: int
) -> Iterator[Made]:
    if how == "processes":
        return processes(jobs, original, split, run, folder, workers)
    if how == "vmap":
        return side_by_side(jobs, original, split, run)
    if how == "ray":
        return over_ray(jobs, original, split, run, workers)
    return one_by_one(jobs, original, split, run)


def _save(made: Iterator[Made], folder: Path, run: Run, label: str, total: int) -> None:
    for job, artifact in run.track(made, label, total):
        if artifact is not None:
            artifact.save(folder / job.folder)


def _left(name: str) -> bool:
    """Return whether a run that was killed before it had begun leaves this in the folder."""
    return name in {LOCK, MARK} or NAME.fullmatch(name) is not None


def _manifest(folder: Path, case: Case) -> Manifest:
    """Return what a folder is for: the same original, request and seed, or nothing yet."""
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(not _left(p.name) for p in folder.iterdir()):
            check_vacant(folder, overwrite=False)
        return Manifest.of(case.original.record, case.split, case.run.seed)
    manifest = load_references(folder).manifest
    manifest.check(case.original.record, case.split, str(folder), growing=True)
    if manifest.seed != case.run.seed:
        raise InputError(
            f"the references in {folder} derive from seed {manifest.seed}, not {case.run.seed}; choose another folder"
        )
    return manifest


def _dealt(split: Split, shadows: int, run: Run) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Deal the records to forget out in thirds, and yield which are out of, and unlearned by, each shadow model."""
    if not shadows:
        return
    from efface.auditing.measures.u_lira import Role, thirds  # scipy, which the processes that train need not load

    items = torch.from_numpy(split.forget.indices)
    roles = thirds(shadows, len(items), run.generator("shadows/roles"))
    if split.data.canaries is not None:  # what becomes of a record becomes of its copies: a request names both
        place = {item: i for i, item in enumerate(items.tolist())}
        copies = zip(split.data.canaries.positions.tolist(), split.data.canaries.sources.tolist(), strict=True)
        for copy, source in copies:
            if copy in place and source in place:
                roles[:, place[copy]] = roles[:, place[source]]
    for dealt in roles:
        yield tuple(items[dealt == Role.OUT].tolist()), tuple(items[dealt == Role.UNLEARNED].tolist())
