"""Which backend makes which series; each is given what it needs, and nobody's time is taken for retraining's alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import given
from efface.data import Data, Split, load
from efface.errors import InputError
from efface.references import backends as module
from efface.references.backends import chosen, one_by_one, over_ray, processes, side_by_side
from efface.references.jobs import Repeat, Retraining
from efface.request import Request
from efface.running.engines import Failure, Outcome
from efface.running.run import Run
from efface.training.recipe import Recipe

JOBS = [Retraining(k, 10 + k) for k in range(3)]
CUDA = SimpleNamespace(device=torch.device("cuda"))


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def split(digits) -> Split:
    return Split.of(digits, Request(classes=(0,)))


@pytest.fixture(scope="module")
def original(digits) -> Artifact:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return given(model, Split.of(digits), Recipe(epochs=1, batch_size=512), Run(seed=1, device="cpu"))


@pytest.mark.parametrize("together", ["", "control flow"])
def test_a_gpu_takes_small_networks_side_by_side_where_they_can_be_stacked(together, original, split, monkeypatch):
    monkeypatch.setattr(module, "_not_together", lambda *_: together)
    assert chosen("auto", JOBS, original, split, CUDA, 4) == ("serial" if together else "vmap")
    monkeypatch.setattr(module, "SMALL", 649)  # the network has 650 parameters
    assert chosen("auto", JOBS, original, split, CUDA, 4) == "serial"
    monkeypatch.setattr(module, "SMALL", 650)
    assert chosen("auto", JOBS, original, split, CUDA, 4) == ("serial" if together else "vmap")
    if together:
        with pytest.raises(InputError, match=r"cannot be trained side by side: control flow\. Use another backend"):
            chosen("vmap", JOBS, original, split, CUDA, 4)
    else:
        assert chosen("vmap", JOBS, original, split, CUDA, 1) == "vmap"


def test_a_cpu_takes_processes_where_there_is_something_to_share(original, split, monkeypatch):
    run = Run(device="cpu")
    monkeypatch.setattr(module, "SMALL", 650)
    assert chosen("auto", JOBS[:2], original, split, run, 2) == "processes"
    assert chosen("auto", JOBS[:1], original, split, run, 2) == "serial"
    assert chosen("auto", JOBS, original, split, run, 1) == "serial"
    assert chosen("processes", JOBS[:1], original, split, run, 1) == "processes"
    assert chosen("serial", JOBS, original, split, run, 2) == "serial"
    monkeypatch.setattr(module, "SMALL", 649)
    assert chosen("auto", JOBS, original, split, run, 2) == "serial"
    with pytest.raises(InputError, match="processes train on CPU cores, but the device is cuda; use vmap, serial or"):
        chosen("processes", JOBS, original, split, CUDA, 2)


def test_what_cannot_be_batched_or_sent_says_why(original, split, monkeypatch):
    run = Run(device="cpu")
    with pytest.raises(InputError, match="only plain retraining is done so, no unlearning method"):
        chosen("vmap", [*JOBS, Repeat(0, 1, "ssd")], original, split, run, 2)
    assert chosen("vmap", JOBS, original, split, run, 2) == "vmap"
    monkeypatch.setattr(original.model, "note", lambda: None, raising=False)
    assert chosen("auto", JOBS, original, split, run, 2) == "serial"
    with pytest.raises(InputError, match=r"cannot be sent to another process: .*lambda.*\. Use backend serial"):
        chosen("processes", JOBS, original, split, run, 2)


def test_one_by_one_gives_each_job_a_run_with_its_own_seed(original, split):
    class Noted(Retraining):
        def make(self, *given):
            return given

    run = Run(seed=1, device="cpu")
    made = list(one_by_one([Noted(k, 10 + k) for k in range(2)], original, split, run))
    assert [job.number for job, _ in made] == [0, 1]
    for job, (first, second, own) in made:
        assert (first, second) == (original, split)
        assert (own.seed, own.history is run.history) == (job.seed, False)


def test_side_by_side_halves_its_groups_where_memory_is_short(original, split, monkeypatch):
    groups, emptied = [], []

    def fit(models, part, recipe, runs, *, stage):
        groups.append(len(models))
        assert (part.name, recipe, stage) == ("retain", original.record.recipe, "retrain")
        assert [r.seed for r in runs] == [j.seed for j in JOBS[sum(done) : sum(done) + len(models)]]
        if len(models) > 1:
            raise torch.OutOfMemoryError("short")
        done.append(1)

    done: list[int] = []
    monkeypatch.setattr(module, "fit_together", fit)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    made = list(side_by_side(JOBS, original, split, Run(seed=1, device="cpu")))
    assert [job for job, _ in made] == JOBS
    assert groups == [3, 1, 1, 1]
    assert len(emptied) == 1
    assert len({a.record.weights_after for _, a in made}) == 3  # each starts from its own weights
    for job, artifact in made:
        assert (artifact.record.method, artifact.record.seed) == ("retrain", job.seed)
        assert set(artifact.record.seconds) == {"side by side"}
        assert artifact.record.notes[-1] == f"trained side by side with 0 others: its {module.BESIDE}"
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(module, "fit_together", lambda models, *_, **__: groups.append(len(models)))
    groups.clear()
    made = list(side_by_side(JOBS, original, split, Run(seed=1, device="cpu")))
    assert groups == [2, 1]
    assert made[0][1].record.notes[-1].startswith("trained side by side with 1 others")

    def never(*_, **__):
        raise torch.OutOfMemoryError("short")

    monkeypatch.setattr(module, "fit_together", never)
    with pytest.raises(InputError, match="one model alone does not fit into the GPU's memory; use smaller batches"):
        list(side_by_side(JOBS, original, split, Run(seed=1, device="cpu")))


@pytest.fixture
def engine(monkeypatch):
    """Engines that do here what others do elsewhere; returns what they were asked for beside the work."""
    asked = []

    def here(work, tasks, state, workers, **options):
        asked.append((workers, options))
        for task in tasks:
            yield Outcome(task.key, work(state, task.job, ()))

    monkeypatch.setattr(module.engines, "in_processes", here)
    monkeypatch.setattr(module.engines, "over_ray", here)
    return asked


@pytest.fixture(scope="module")
def alone(original, split):
    """What the jobs make one by one."""
    return [artifact for _, artifact in one_by_one(JOBS, original, split, Run(seed=1, device="cpu"))]


def test_processes_save_the_models_of_one_by_one_and_own_up_to_their_times(original, split, alone, engine, tmp_path):
    run = Run(device="cpu")
    assert list(processes(JOBS, original, split, run, tmp_path, 8)) == [(job, None) for job in JOBS]
    like = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    saved = [Artifact.load(tmp_path / job.folder, like) for job in JOBS]
    assert [a.record.weights_after for a in saved] == [a.record.weights_after for a in alone]
    assert [a.record.seed for a in saved] == [10, 11, 12]
    for artifact in saved:
        assert artifact.record.device == "cpu"
        assert set(artifact.record.seconds) == {"side by side"}
        assert artifact.record.notes[-1] == f"trained in a process with one thread, beside others: its {module.BESIDE}"
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    list(processes(JOBS, original, split, run, tmp_path, 2))  # as after a process that died behind its saving
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == written
    assert [workers for workers, _ in engine] == [3, 2]  # no more than there are jobs


def test_what_is_sent_to_processes_does_not_grow_with_the_data(original, split, monkeypatch, tmp_path):
    sizes = []

    def engine(work, tasks, state, workers):
        sizes.append(len(pickle.dumps(state)))
        return iter(())

    monkeypatch.setattr(module.engines, "in_processes", engine)
    list(processes(JOBS, original, split, Run(device="cpu"), tmp_path, 2))
    assert sizes[0] < len(pickle.dumps((original, split))) / 4


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_over_ray_the_models_of_one_by_one_come_back_without_what_they_were_made_from(
    precision, original, split, alone, engine
):
    made = list(over_ray(JOBS, original, split, Run(device="cpu", precision=precision), 5))
    assert [job for job, _ in made] == JOBS
    same = [artifact.record.weights_after for _, artifact in made] == [a.record.weights_after for a in alone]
    assert same == (precision == "32-true")
    for _, artifact in made:
        assert artifact.parent is None
        assert set(artifact.record.seconds) == {"side by side"}
        assert artifact.record.notes[-1].startswith("trained over Ray: its seconds count while other models were")
    assert engine == [(5, {"gpu": False})]


def test_over_ray_each_job_gets_a_gpu_where_the_run_is_on_one(original, split, monkeypatch):
    asked = []
    monkeypatch.setattr(module.engines, "over_ray", lambda *_, gpu: asked.append(gpu) or iter(()))
    list(over_ray(JOBS, original, split, SimpleNamespace(device=torch.device("cuda:1"), precision="32-true"), 5))
    assert asked == [True]


def test_what_failed_is_raised_and_a_worker_that_died_says_what_to_do(original, split, monkeypatch):
    def failing(failure):
        monkeypatch.setattr(module.engines, "in_processes", lambda *_: iter([Outcome("reference-000", None, failure)]))
        return processes(JOBS, original, split, Run(device="cpu"), Path("nowhere"), 1)

    with pytest.raises(
        InputError, match=r"^reference-000: it died twice\. Use fewer workers if memory is short; finished"
    ):
        list(failing(Failure(None, "it died twice", died=True)))
    with pytest.raises(ZeroDivisionError, match="the job's own"):
        list(failing(Failure(ZeroDivisionError("the job's own"), "words")))
