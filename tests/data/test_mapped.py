"""Samples in shared memory: the same samples, a handle instead of a copy, and no file."""

from __future__ import annotations

import pickle

import pytest
import torch

from efface.data import Split, load
from efface.data.mapped import MappedSamples, mapped
from efface.data.samples import ArraySamples
from efface.request import Request
from efface.running.engines import Task, in_processes


@pytest.fixture(scope="module")
def split() -> Split:
    return Split.of(load("digits"), Request(classes=(0,)))


def test_they_are_the_same_samples_and_pickle_small(split):
    twin = mapped(split)
    assert isinstance(twin.data.train, MappedSamples)
    assert twin.data.fingerprint == split.data.fingerprint
    packed = pickle.dumps(twin.data.train)
    assert len(packed) < split.data.train.inputs.nbytes / 4
    again = pickle.loads(packed)  # noqa: S301 - made just above
    order = [torch.tensor([5, 0, 700])]
    assert torch.equal(next(again.read(order)), next(split.data.train.read(order)))
    assert torch.equal(twin.retain.labels, split.retain.labels)


def test_processes_see_them_and_no_file_holds_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    inputs = torch.rand(50, 3, 4, 4)
    shared = {k: MappedSamples(ArraySamples((inputs * 200).to(k), [0, 1] * 25)) for k in (torch.uint8, torch.float32)}
    assert not list(tmp_path.rglob("*"))
    tasks = [Task(str(k), k) for k in shared]
    found = {o.key: o.value for o in in_processes(total, tasks, shared, 1)}
    assert found == {str(k): s.inputs.sum().item() for k, s in shared.items()}


def total(state, job, _):
    return state[job].inputs.sum().item()
