"""Epochs: how a number of samples is batched, ordered and shared."""

from __future__ import annotations

import pytest
import torch

from efface.data import Epoch
from efface.errors import InputError


def test_without_a_generator_samples_come_in_order() -> None:
    assert [b.tolist() for b in Epoch(3).order(7)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert Epoch(3).order(0)[0].tolist() == []


def test_a_generator_gives_the_permutation_that_torch_draws() -> None:
    drawn = torch.randperm(7, generator=torch.Generator().manual_seed(5))
    order = Epoch(3, generator=torch.Generator().manual_seed(5), drop_last=True).order(7)
    assert [b.tolist() for b in order] == [drawn[:3].tolist(), drawn[3:6].tolist()]


def test_ranks_share_a_batch_in_turn() -> None:
    batch = torch.arange(5)
    assert [Epoch(5, rank=r, world=2).share(batch).tolist() for r in (0, 1)] == [[0, 2, 4], [1, 3]]


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="batch size 0; needed: at least 1"):
        Epoch(0)
