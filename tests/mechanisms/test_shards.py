from __future__ import annotations

import numpy as np
import pytest
import torch

from efface.data import ArraySamples, Data
from efface.errors import InputError
from efface.mechanisms.shards import Shards, epochs_by_slice, first_touched


def data(n: int, groups: list[int] | None = None) -> Data:
    samples = ArraySamples(torch.rand(n, 2), torch.arange(n) % 3)
    return Data("made", samples, samples, ("a", "b", "c"), None if groups is None else np.array(groups))


def seed(s: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(s)


def test_every_position_lies_in_one_slice_and_slices_are_even() -> None:
    dealt = Shards.dealt(data(103), 4, 3, seed())
    positions = np.arange(103)
    found = [dealt.lists(k, positions) for k in range(4)]
    assert sorted(np.concatenate([p for lists in found for p in lists]).tolist()) == positions.tolist()
    sizes = [len(p) for lists in found for p in lists]
    assert max(sizes) - min(sizes) <= 2
    assert found[0][0].tolist() != list(range(len(found[0][0])))


def test_places_do_not_depend_on_what_is_deleted() -> None:
    dealt = Shards.dealt(data(60), 3, 2, seed())
    some = np.setdiff1d(np.arange(60), [4, 17, 30])
    for k in range(3):
        for all_of_it, left in zip(dealt.lists(k, np.arange(60)), dealt.lists(k, some), strict=True):
            assert left.tolist() == [p for p in all_of_it if p not in (4, 17, 30)]


def test_groups_stay_together() -> None:
    groups = [i // 4 for i in range(80)]
    dealt = Shards.dealt(data(80, groups), 3, 2, seed(), groups=True)
    for g in range(20):
        own = np.array(groups) == g
        assert len(set(dealt.shard[own])) == len(set(dealt.piece[own])) == 1
    assert set(dealt.shard) == {0, 1, 2}
    with pytest.raises(InputError, match="no group ids"):
        Shards.dealt(data(80), 3, 2, seed(), groups=True)


def test_too_few_records_are_refused() -> None:
    with pytest.raises(InputError, match="too few for 5 x 2"):
        Shards.dealt(data(9), 5, 2, seed())


def test_a_class_is_a_shard_cut_evenly() -> None:
    dealt = Shards.by_class(data(90), 5, seed())
    for c in range(3):
        lists = dealt.lists(c, np.arange(90))
        assert [len(p) for p in lists] == [6] * 5
        assert all((p % 3 == c).all() for p in lists)


@pytest.mark.parametrize(("epochs", "slices"), [(20, 4), (8, 5), (3, 7), (2.5, 4), (20, 64)])
def test_slices_cost_as_many_visits_as_plain_epochs(epochs: float, slices: int) -> None:
    each = epochs_by_slice(epochs, slices)
    assert len(each) == slices
    assert all(e == int(e) >= 0 for e in each)
    visits = sum(e * (j + 1) / slices for j, e in enumerate(each))
    assert visits == pytest.approx(epochs, abs=1)  # whole epochs


def test_whole_epochs_by_hand() -> None:
    assert epochs_by_slice(20, 4) == (8, 8, 8, 8)
    assert epochs_by_slice(8, 5) == (2, 3, 3, 2, 3)
    assert epochs_by_slice(2.5, 1) == (2.5,)


def test_the_first_slice_touched() -> None:
    none, some = np.array([], np.int64), np.array([3])
    assert first_touched([none, none]) is None
    assert first_touched([none, some, some]) == 1
