"""`train_references`: fill a folder with the models that audits of one request compare with; a stopped run resumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from efface.artifact import RECORD, Artifact
from efface.data import Split
from efface.errors import InputError
from efface.folder import check_vacant
from efface.methods.catalogue import make
from efface.references.backends import (
    Backend,
    Made,
    chosen,
    cores,
    one_by_one,
    over_ray,
    processes,
    side_by_side,
)
from efface.references.folder import MANIFEST, Manifest, References, load_references, write_manifest
from efface.references.jobs import Job, Repeat, Retraining, Shadow
from efface.run import Run

__all__ = ["train_references"]


def train_references(
    original: Artifact,
    split: Split,
    n: int,
    out: str | Path,
    run: Run,
    *,
    repeats: int = 0,
    shadows: int = 0,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    backend: Backend = "auto",
    workers: int | None = None,
) -> References:
    """Train what is still missing in a folder of references, each model saved as soon as it is ready.

    The first reference is always trained alone with all threads, so that its time is a fair one to compare with.

    Args:
        original: The model that the request is addressed to; its record's recipe is used.
        split: The data under the request.
        n: Models retrained without the request's data.
        out: The folder; models in it that belong to this original and request are kept and not trained again.
        run: Its seed gives all others; device and progress.
        repeats: Runs of training with the data and unlearning it by `method`.
        shadows: Shadow models in RULI's thirds, a multiple of 3: each record to forget is out of a third of them, and
            unlearned by `method` in another.
        method: The unlearning method of repeats and shadows.
        settings: Its hyper-parameters.
        backend: Where to train; `auto` chooses, see `efface.references.backends.chosen`.
        workers: Most processes or Ray tasks at once; one per core by default.

    Raises:
        InputError: Numbers do not fit, the folder holds references of something else, or a job cannot be done.
    """
    if n < 1 or repeats < 0 or (workers is not None and workers < 1):
        raise InputError(f"{n} references, {repeats} repeats and {workers} workers; needed: at least 1, 0 and 1")
    if (repeats or shadows) and method is None:
        raise InputError("repeats and shadow models unlearn; name the method")
    if split.resolved is None:
        raise InputError("references need a request: say what the retrained models must not have seen")
    unlearning = None if method is None else make(method, settings)
    name, values = (unlearning.name, unlearning.settings()) if unlearning else ("", {})
    jobs: dict[str, list[Job]] = {
        "reference": [Retraining(k, run.number(f"reference {k}")) for k in range(n)],
        f"unlearned-{name}": [Repeat(k, run.number(f"repeat {k}"), name, values) for k in range(repeats)],
        f"shadow-{name}": [
            Shadow(k, run.number(f"shadow {k}"), name, values, out, unlearned)
            for k, (out, unlearned) in enumerate(_dealt(split, shadows, run))
        ],
    }
    jobs = {series: listed for series, listed in jobs.items() if listed}
    for job in (job for listed in jobs.values() for job in listed):
        job.check(original, split)
    # What training left behind for forgetting is of no use to references; no need to save it with each.
    original = dataclasses.replace(original, memory={}, parent=None)
    workers = workers or cores()
    backends: dict[str, Backend] = {}
    for series, listed in jobs.items():
        # Only plain retraining can be batched; what unlearns beside it runs as `auto` would.
        asked = backend if series == "reference" or backend != "vmap" else "auto"
        backends[series] = chosen(asked, listed, original, split, run, workers)
    folder = _opened(Path(out), original, split, run.seed, jobs)
    for series, listed in jobs.items():
        todo = [job for job in listed if not (folder / job.folder / RECORD).is_file()]
        how = backends[series]
        if series == "reference" and todo and todo[0].number == 0 and how != "serial":
            _save(one_by_one(todo[:1], original, split, run), folder, run, "first reference, timed alone", 1)
            todo = todo[1:]
        if todo:
            label = f"{series} ({len(todo)} models, {how})"
            _save(_made(how, todo, original, split, run, folder, workers), folder, run, label, len(todo))
    return load_references(folder, original.model, trust=True)


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


def _opened(folder: Path, original: Artifact, split: Split, seed: int, jobs: Mapping[str, list[Job]]) -> Path:
    """Make the folder, or check that an existing one is for the same original, request and seed."""
    if (folder / MANIFEST).is_file():
        manifest = load_references(folder).manifest
        manifest.check(original.record, split, str(folder))
        if manifest.seed != seed:
            raise InputError(
                f"the references in {folder} derive from seed {manifest.seed}, not {seed}; choose another folder"
            )
    else:
        check_vacant(folder, overwrite=False)
        manifest = Manifest.of(original.record, split, seed)
    write_manifest(folder, manifest, jobs)
    return folder


def _dealt(split: Split, shadows: int, run: Run) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Deal the records to forget out in thirds, and yield which are out of, and unlearned by, each shadow model."""
    if not shadows:
        return
    from efface.auditing.lira import Role, thirds  # scipy, which the processes that train need not load

    items = torch.from_numpy(split.forget.indices)
    roles = thirds(shadows, len(items), run.generator("shadows/roles"))
    for dealt in roles:
        yield tuple(items[dealt == Role.OUT].tolist()), tuple(items[dealt == Role.UNLEARNED].tolist())
