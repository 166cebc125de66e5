"""The jobs of a grid: what comes before what, what is made once, where each result goes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.comparing import jobs as module
from efface.comparing.jobs import Original, Reference, Work, run_jobs
from efface.comparing.keys import Keys
from efface.comparing.plan import Cell, Plan
from efface.comparing.store import Store
from efface.data import load
from efface.errors import InputError
from efface.running.engines import Outcome
from efface.running.progress import Progress

PLAN = {
    "name": "grid",
    "data": {"source": "digits"},
    "model": {"build": "mlp"},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "seeds": [0, 1],
    "measures": ["audit"],
    "references": 2,
    "methods": [{"method": "original"}, {"method": "ssd"}, {"method": "ssd", "label": "the same again"}],
}


class Shown(Progress):
    """Remembers what it was asked to track."""

    def __init__(self) -> None:
        self.tracked: list[tuple[str, int]] = []

    def track(self, items, label, total):
        self.tracked.append((label, total))
        return items


def work(folder: Path, **changes) -> Work:
    plan = Plan.model_validate({**PLAN, **changes})
    return Work(plan, load("digits"), Keys(plan, "abc"), Store(folder), "cpu", Shown())


def model() -> Artifact:
    artifact = Artifact.__new__(Artifact)
    object.__setattr__(artifact, "model", nn.Linear(2, 2))
    return artifact


def test_everything_is_made_once_after_what_it_stands_on_and_kept_in_its_place(tmp_path, monkeypatch):
    given, done = work(tmp_path), []
    cells = given.plan.cells()
    saved = {}
    monkeypatch.setattr(Store, "save", lambda self, artifact, folder: saved.update({folder: artifact}))

    def do(state, job, values):
        done.append((job, list(values)))
        if isinstance(job, Cell):
            return {"scores": {"A_R": {"value": 1.0}}, "of": job.entry}, "{}"
        return model()

    assert run_jobs(do, given, cells, "local", 1, None) == {}
    originals = [j for j, _ in done if isinstance(j, Original)]
    references = [j for j, _ in done if isinstance(j, Reference)]
    computed = [j for j, _ in done if isinstance(j, Cell)]
    # Two seeds; two references for each of two requests; one cell serves both rows of ssd.
    assert sorted(j.cell.seed for j in originals) == [0, 1]
    assert len({(j.cell.request.classes, j.cell.seed, j.number) for j in references}) == len(references) == 2 * 2 * 2
    assert {j.number for j in references} == {0, 1}
    assert len(computed) == len({given.keys.cell(c) for c in cells}) == 2 * 2 * 2
    for job, values in done:
        before = [0, 1, 3][[Original, Reference, Cell].index(type(job))]
        assert len(values) == before
        for value in values:
            assert value in saved.values()
        if isinstance(job, Cell):
            (first, *rest) = values
            assert first is saved[given.store.original(given.keys.original(job))]
            assert rest == [saved[given.store.reference(given.keys.references(job), k)] for k in (0, 1)]
    for cell in computed:
        assert given.store.result(given.keys.cell(cell))["of"] in {"original", "ssd"}
        assert (tmp_path / f"{given.keys.cell(cell)}.audit.json").read_text() == "{}"
    assert given.progress.tracked == [("compare grid", 2 + 8 + 8)]


def test_rows_that_fine_tune_share_one_plain_original(tmp_path, monkeypatch):
    tuned = {"method": "mnemonic", "fine_tune": {"epochs": 1}}
    rows = [{"method": "original"}, {"method": "mnemonic", "train": tuned}]
    given, done = work(tmp_path, methods=rows, seeds=[0], references=0, measures=["accuracy"]), []

    def do(state, job, values):
        done.append((job, list(values)))
        return given.place(job) if isinstance(job, Original) else ({"scores": {}}, None)

    assert run_jobs(do, given, given.plan.cells(), "local", 1, None) == {}
    made = {job.cell.train.method: (given.place(job), values) for job, values in done if isinstance(job, Original)}
    assert len(made) == len([job for job, _ in done if isinstance(job, Original)]) == 2
    assert made[None][1] == []
    assert made["mnemonic"][1] == [made[None][0]]
    assert {job.train.method: values for job, values in done if isinstance(job, Cell)} == {
        name: [place] for name, (place, _) in made.items()
    }


def test_nothing_missing_is_nothing_to_do(tmp_path):
    given = work(tmp_path)
    assert run_jobs(lambda *_: pytest.fail("worked"), given, [], "local", 1, None) == {}
    assert given.progress.tracked == []


def test_what_fails_is_named_kept_and_not_finished(tmp_path):
    given = work(tmp_path, references=0, measures=["accuracy"])
    cells = given.plan.cells()

    def do(state, job, values):
        if isinstance(job, Original):
            if job.cell.seed == 1:
                raise InputError("no original")
            return tmp_path  # a folder that it saved itself
        if job.method == "ssd":
            raise MemoryError("no room")
        return {"scores": {}}, None

    failures = run_jobs(do, given, cells, "local", 1, None)
    words = {key: failure.words for key, failure in failures.items()}
    keys = {(c.method, c.seed): set() for c in cells}
    for c in cells:
        keys[c.method, c.seed].add(given.keys.cell(c))
    assert words[f"original {given.keys.original(next(c for c in cells if c.seed == 1))}"] == "no original"
    assert {words[k] for k in keys["ssd", 0]} == {"out of memory (MemoryError: no room)"}
    assert all(given.store.result(k)["refused"] == words[k] for k in keys["ssd", 0] | keys["ssd", 1])
    assert all(given.store.result(k)["method"] == "ssd" for k in keys["ssd", 0])
    assert keys["original", 1] <= set(words)  # what waited for it
    assert not keys["original", 0] & set(words)
    assert not any(given.store.finished(k) for k in words)
    assert all(given.store.finished(k) for k in keys["original", 0])


def test_each_engine_is_given_what_its_jobs_can_see(tmp_path, monkeypatch):
    """Processes get the data as mapped files, Ray gets the data itself; neither shows progress."""
    seen, do = {}, object()

    def engine(name):
        def run(given, tasks, state, workers=None, **options):
            assert given is do
            seen[name] = state, len(tasks), workers, options
            return iter(Outcome(t.key, failure=None, value=None) for t in tasks if not isinstance(t.job, Cell))

        return run

    for name in ("one_by_one", "in_processes", "over_ray"):
        monkeypatch.setattr(module, name, engine(name))
    given = work(tmp_path, references=0, measures=["accuracy"])
    cells = given.plan.cells()
    few = [cells[0]]
    run_jobs(do, given, cells, "local", 1, None)
    state, *_ = seen.pop("one_by_one")
    assert (state.shared, state.progress, state.data) == (True, given.progress, given.data)
    run_jobs(do, given, few, "local", 4, None)  # an original and its cell follow one another
    assert set(seen) == {"one_by_one"}
    seen.clear()
    run_jobs(do, given, [c for c in cells if c.seed == 0][:2], "local", 3, None)  # two cells may follow one original
    assert seen.pop("in_processes")[1] == 3
    assert not seen
    run_jobs(do, given, cells[:2], "local", 3, None)
    state, tasks, workers, options = seen.pop("in_processes")
    assert (state.shared, tasks, workers, options) == (True, 4, 3, {})
    assert type(state.progress) is Progress
    assert state.data is not given.data
    assert state.data.fingerprint == given.data.fingerprint
    assert not seen
    for device, available, gpu in (
        ("cpu", True, False),
        ("cuda:1", False, True),
        ("auto", True, True),
        ("auto", False, False),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        run_jobs(do, dataclasses.replace(given, device=device), few, "ray", 2, "head:1")
        state, tasks, workers, options = seen.pop("over_ray")
        assert (state.shared, tasks, workers, options) == (False, 2, 2, {"gpu": gpu, "address": "head:1"})
        assert type(state.progress) is Progress
        assert state.data is given.data


def test_over_ray_models_made_before_travel_with_their_jobs(tmp_path, monkeypatch):
    given = work(tmp_path)
    cells, loaded, jobs = given.plan.cells()[:1], [], []
    monkeypatch.setattr(Store, "load", staticmethod(lambda folder: loaded.append(folder) or f"from {folder.name}"))
    monkeypatch.setattr(module, "over_ray", lambda do, tasks, *_, **__: jobs.extend(t.job for t in tasks) or iter(()))
    monkeypatch.setattr(module, "one_by_one", lambda do, tasks, *_, **__: jobs.extend(t.job for t in tasks) or iter(()))
    original = given.store.original(given.keys.original(cells[0]))
    second = given.store.reference(given.keys.references(cells[0]), 1)
    for folder in (original, second):
        folder.mkdir(parents=True)
    run_jobs(None, given, cells, "ray", 2, None)
    known = [getattr(job, "known", "no field") for job in jobs]
    assert known == [f"from {original.name}", None, f"from {second.name}", "no field"]
    assert loaded == [original, second]
    jobs.clear()
    run_jobs(None, given, cells, "local", 1, None)  # jobs here see the folder
    assert [getattr(job, "known", "no field") for job in jobs] == [None, None, None, "no field"]


def test_what_a_job_made_is_loaded_where_it_lies_in_a_folder(tmp_path, monkeypatch):
    given, made = work(tmp_path), model()
    monkeypatch.setattr(Store, "load", staticmethod(lambda folder: folder.name))
    assert given.loaded(made) is made
    assert given.loaded(tmp_path / "x") == "x"
