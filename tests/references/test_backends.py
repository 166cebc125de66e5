"""Which backend makes which series; each is given what it needs, and nobody's time is taken for retraining's alone."""

from __future__ import annotations

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


def test_processes_are_given_shared_inputs_and_save_what_they_make(original, split, monkeypatch, tmp_path):
    seen = {}

    def engine(work, tasks, state, workers):
        seen.update(work=work, workers=workers, state=state, keys=[t.key for t in tasks])
        return (Outcome(t.key, t.job) for t in tasks)

    monkeypatch.setattr(module.engines, "in_processes", engine)
    run = Run(device="cpu", precision="bf16-mixed")
    assert list(processes(JOBS, original, split, run, tmp_path, 8)) == [(job, None) for job in JOBS]
    assert seen["workers"] == 3
    list(processes(JOBS, original, split, run, tmp_path, 2))
    assert seen["workers"] == 2
    assert seen["keys"] == ["reference-000", "reference-001", "reference-002"]
    artifact, shared, precision, folder = seen["state"]
    assert (artifact, precision, folder) == (original, "bf16-mixed", tmp_path)
    assert shared.data.fingerprint == split.data.fingerprint
    assert shared is not split
    state = (original, split, "32-true", tmp_path)
    assert seen["work"](state, JOBS[1], ()) == JOBS[1]
    saved = Artifact.load(tmp_path / "reference-001", nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert (saved.record.seed, saved.record.device) == (11, "cpu")
    assert set(saved.record.seconds) == {"side by side"}
    assert saved.record.notes[-1] == f"trained in a process with one thread, beside others: its {module.BESIDE}"
    monkeypatch.setattr(Retraining, "make", lambda *_: pytest.fail("made again"))
    assert seen["work"](state, JOBS[1], ()) == JOBS[1]  # a first try had saved it before its process died


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_over_ray_models_come_back_without_what_they_were_made_from(kind, original, split, monkeypatch):
    seen = {}

    def engine(work, tasks, state, workers, *, gpu):
        seen.update(work=work, workers=workers, state=state, gpu=gpu)
        return (Outcome(t.key, (t.job, original)) for t in tasks)

    monkeypatch.setattr(module.engines, "over_ray", engine)
    run = SimpleNamespace(device=torch.device(kind), precision="32-true")
    assert list(over_ray(JOBS, original, split, run, 5)) == [(job, original) for job in JOBS]
    assert (seen["workers"], seen["gpu"]) == (5, kind == "cuda")
    assert seen["state"] == (original, split, kind, "32-true")
    if kind == "cpu":
        job, made = seen["work"](seen["state"], JOBS[2], ())
        assert (job, made.record.seed, made.parent) == (JOBS[2], 12, None)
        assert set(made.record.seconds) == {"side by side"}
        assert made.record.notes[-1].startswith("trained over Ray: its seconds count while other models were trained")


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
