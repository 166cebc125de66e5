"""Records chosen by entropy, against the definition written out."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.methods.arcane.selection import BINS, most_informative


def entropy(bins: Tensor) -> float:
    """Sum over columns of the entropy of the bins in it."""
    total = 0.0
    for column in bins.T:
        p = column.bincount().double() / len(column)
        total -= float((p[p > 0] * p[p > 0].log()).sum())
    return total


def test_each_row_chosen_adds_most_to_the_entropy() -> None:
    """Every other choice is tried, for as many rows as are looked at."""
    x = torch.rand(40, 2, 3, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    rows = x.flatten(1)
    bins = ((rows - rows.min()) / (rows.max() - rows.min()) * BINS).long().clamp(max=BINS - 1)
    chosen: list[int] = []
    for count in range(1, 16):
        found = set(most_informative(x, order, count).tolist())
        (new,) = found - set(chosen)
        reached = {i: entropy(bins[[*chosen, i]]) for i in range(40) if i not in chosen}
        assert reached[new] >= max(reached.values()) - 1e-9
        equal = [i for i, value in reached.items() if value >= reached[new] - 1e-9]
        assert int(order[new]) == min(int(order[i]) for i in equal)
        chosen.append(new)


def test_copies_of_a_row_are_chosen_last() -> None:
    x = torch.cat([torch.zeros(6, 4), torch.arange(1.0, 7)[:, None].expand(6, 4)])
    chosen = most_informative(x, torch.arange(12), 7).tolist()
    assert chosen == [0, 6, 7, 8, 9, 10, 11]
    assert most_informative(torch.zeros(3, 2), torch.tensor([2, 0, 1]), 2).tolist() == [1, 2]


def test_only_the_first_of_many_are_looked_at() -> None:
    x = torch.zeros(300, 1)
    x[299], x[0] = 1.0, 1.0
    found = most_informative(x, torch.arange(300), 2).tolist()
    assert found == [0, 1]
    assert most_informative(x, torch.arange(300).flip(0), 2).tolist() == [298, 299]
