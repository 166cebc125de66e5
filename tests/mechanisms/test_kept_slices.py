from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from efface.mechanisms.kept_slices import KeptSlices
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe


def network(activation: nn.Module, seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(2, 2), activation)


def for_a_method() -> Run:
    run = Run(seed=1, device="cpu")
    run.purpose = "sisa {}"
    return run


def kept(folder: Path, **other: Any) -> KeptSlices:
    given = {
        "run": Run(seed=1, device="cpu"),
        "stage": "sisa/shard 1",
        "model": network(nn.ReLU()),
        "lists": [np.arange(3), np.arange(3, 5)],
        "recipe": Recipe(),
        "start": 0,
        "fingerprint": "f",
    }
    return KeptSlices(folder, **{**given, **other})


def test_a_state_comes_back_with_its_history(tmp_path: Path) -> None:
    one = kept(tmp_path / "deep")
    assert one.read(0) is None
    one.write(0, {"a": torch.arange(3)}, [{"stage": "s", "loss": 0.5}])
    state, rows = kept(tmp_path / "deep").read(0) or ({}, [])
    assert torch.equal(state["a"], torch.arange(3))
    assert rows == [{"stage": "s", "loss": 0.5}]
    assert one.read(1) is None


@pytest.mark.parametrize(
    "other",
    [
        {"run": Run(seed=2, device="cpu")},
        {"run": for_a_method()},
        {"stage": "sisa/shard 2"},
        {"model": network(nn.ReLU(), seed=1)},
        {"model": network(nn.Tanh())},  # the same weights
        {"lists": [np.arange(3), np.arange(3, 6)]},
        {"lists": [np.arange(2), np.arange(2, 5)]},
        {"recipe": Recipe(epochs=7)},
        {"start": 1},
        {"fingerprint": "g"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_file_of_another_training_is_never_taken(other: dict[str, Any], tmp_path: Path) -> None:
    kept(tmp_path).write(0, {"a": torch.zeros(1)}, [])
    assert kept(tmp_path).read(0) is not None
    assert kept(tmp_path, **other).read(0) is None


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_a_torn_file_is_passed_over_and_said(content: bytes | None, tmp_path: Path) -> None:
    run = Run(seed=1, device="cpu")
    one = kept(tmp_path, run=run)
    one.write(0, {"a": torch.zeros(100)}, [])
    whole = one.path(0).read_bytes()
    one.path(0).write_bytes(whole[:-9] if content is None else content)
    assert one.read(0) is None
    assert "is trained again" in run.notes[0]
