"""Members trained apart give the same bits one by one, in processes and over Ray, stopped or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.data import Data, Split, load
from efface.data.touched import counting
from efface.errors import InputError
from efface.mechanisms import members, shards
from efface.mechanisms.members import Member, spread, train_members
from efface.mechanisms.shards import Shards, States
from efface.models.reset import reset
from efface.running import engines
from efface.running.run import Backend, Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe

RECIPE = Recipe(optimiser="adam", lr=3e-3, epochs=2, batch_size=32)
SHARDS, SLICES = 3, 2


@pytest.fixture(scope="module")
def data() -> Data:
    return load("digits")


def made(data: Data) -> list[Member]:
    """Return members at their start, with BatchNorm and dropout."""
    with seeded(0):
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10)]
        template = nn.Sequential(*layers)
    dealt, positions = Shards.dealt(data, SHARDS, SLICES, Run(seed=3).generator("deal")), Split.of(data).train.indices
    return [Member(f"member {k}", reset(template, k), dealt.lists(k, positions)) for k in range(SHARDS)]


def bits(trained: list[Member], states: list[States]) -> list[Tensor]:
    ends = [t for m in trained for t in m.model.state_dict().values()]
    return ends + [t for own in states for j in sorted(own) for t in own[j].values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def done(data: Data, backend: Backend, workers: int = 2, kept: Path | None = None) -> tuple[list[Tensor], Run]:
    run = Run(seed=3, device="cpu", checkpoints=kept, backend=backend, workers=workers)
    trained = made(data)
    return bits(trained, train_members(trained, data, RECIPE, run)), run


@pytest.fixture(scope="module")
def alone(data: Data) -> tuple[list[Tensor], Run, dict[str, int]]:
    split = Split.of(data)
    with counting(data.train, split.positions) as touched:
        found, run = done(data, "serial")
    return found, run, touched.counts


def without_times(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in run.history.rows]


def test_processes_give_the_bits_of_one_by_one(data: Data, alone: Any) -> None:
    """And the same history, and the same count of samples read; over Ray, see tests/test_ray.py."""
    expected, run, counts = alone
    split = Split.of(data)
    with counting(data.train, split.positions) as touched:
        found, other = done(data, "processes")
    assert same(found, expected)
    assert without_times(other) == without_times(run)
    assert touched.counts == counts
    assert any("side by side" in note for note in other.notes)


def test_the_number_of_threads_changes_no_bit(data: Data, alone: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found, _ = done(data, "serial")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert same(found, alone[0])


def test_auto_goes_on_in_processes_where_that_pays(data: Data, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(members, "_elsewhere", lambda rest, *_: asked.extend(m.stage for m in rest) or {})
    monkeypatch.setattr(engines, "START_UP", 0.0)
    with pytest.raises(KeyError):
        done(data, "auto")
    assert asked == ["member 1", "member 2"]  # the first is trained here, and timed
    asked.clear()
    assert same(done(data, "auto", workers=1)[0], alone[0])
    monkeypatch.setattr(engines, "START_UP", 1e9)
    assert same(done(data, "auto")[0], alone[0])
    assert not asked


@pytest.mark.parametrize("stopped_at", range(1, SHARDS * SLICES + 1))
def test_a_stopped_training_goes_on_after_its_last_slice(
    stopped_at: int, data: Data, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever slice it was stopped in, no finished one is trained again, and the bits are the same."""
    begun: list[str] = []
    fit = shards.fit

    def counted(*args: Any, **more: Any) -> nn.Module:
        begun.append(more["stage"])
        if len(begun) == stopped_at:
            raise KeyboardInterrupt
        return fit(*args, **more)

    monkeypatch.setattr(shards, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        done(data, "serial", kept=tmp_path)
    assert len(list(tmp_path.iterdir())) == stopped_at - 1
    found, run = done(data, "serial", kept=tmp_path)
    assert same(found, alone[0])
    assert len(begun) == SHARDS * SLICES + 1
    assert sorted(set(begun)) == [f"member {k}/slice {j}" for k in range(SHARDS) for j in range(SLICES)]
    assert [{**r, "seconds": 0, "cpu_seconds": 0} for r in run.history.rows] == [
        {**r, "seconds": 0, "cpu_seconds": 0} for r in alone[1].history.rows
    ]
    assert sum("went on after slice" in note for note in run.notes) == stopped_at - 1
    assert sorted(run.interim) == sorted(tmp_path.glob("*.safetensors"))
    assert len(run.interim) == SHARDS * SLICES


def test_what_cannot_be_sent_is_trained_here_or_refused(data: Data) -> None:
    trained = made(data)
    for m in trained:
        m.model.extra = lambda x: x
    run = Run(seed=3, device="cpu", backend="processes")
    with pytest.raises(InputError, match=r"cannot be trained in processes.*Use backend serial"):
        train_members(trained, data, RECIPE, run)
    run.backend = "auto"
    assert len(train_members(trained, data, RECIPE.but(epochs=0), run)) == SHARDS


def test_an_error_in_a_process_is_raised_here(data: Data) -> None:
    run = Run(seed=3, device="cpu", backend="processes", workers=2)
    with pytest.raises(InputError, match="loss is not finite"):
        train_members(made(data), data, RECIPE.but(optimiser="sgd", lr=1e30), run)


def test_nothing_to_train_is_no_work(data: Data) -> None:
    assert train_members([], data, RECIPE, Run(device="cpu", backend="processes")) == []


@pytest.mark.parametrize(
    ("backend", "workers", "apart", "said"),
    [
        ("vmap", None, True, "not 'vmap'"),
        ("serial", 0, True, "0 workers"),
        ("processes", None, False, "sisa, arcane"),
        ("auto", 2, False, "sisa, arcane"),
    ],
)
def test_what_cannot_be_spread_is_refused(backend: str, workers: int | None, apart: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        spread(Run(device="cpu"), backend, workers, apart=apart)


def test_a_run_is_told_where_members_go() -> None:
    run = Run(device="cpu")
    assert (run.backend, run.child().backend) == ("serial", "serial")
    spread(run, "processes", 3, apart=True)
    assert (run.backend, run.workers, run.child().workers) == ("processes", 3, 3)
    spread(run, "auto", None, apart=False)
    assert (run.backend, run.workers) == ("auto", 0)


def test_members_need_positions_of_their_own(data: Data) -> None:
    """An empty shard is left as it is."""
    empty = Member("empty", made(data)[0].model, [np.array([], np.int64)] * 2)
    before = {k: v.clone() for k, v in empty.model.state_dict().items()}
    (states,) = train_members([empty], data, RECIPE, Run(device="cpu"))
    assert all(torch.equal(v, before[k]) for k, v in empty.model.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in states[0].items())
