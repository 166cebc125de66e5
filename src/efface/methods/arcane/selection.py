"""Which records of a class are trained on: those that together have the largest entropy, chosen one by one."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["most_informative"]

BINS, CANDIDATES = 16, 256


def most_informative(x: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the rows chosen greedily: each adds most to the sum over columns of the entropy of the chosen rows' bins.

    With n_jb of m chosen rows in bin b of column j, the sum is  sum_j (log m - sum_b n_jb log n_jb / m),  so the row is
    added whose  sum_j f(n_j + 1) - f(n_j),  f(n) = n log n, n_j the number in its own bin, is least.

    Source: the criterion of Yan et al., "ARCANE", IJCAI 2022, after descriptions of it; bins, their range (least to
    largest entry of all rows) and the number of candidates are ours.

    Args:
        x: Rows (n, ...).
        order: Rank of every row (n,), all different: each time, the first 256 of the rows left are looked at, and of
            equals the first is taken.
        count: How many to choose.

    Returns:
        Their numbers, sorted (count,), int64.
    """
    rows = x.flatten(1).double()
    low, high = rows.min(), rows.max()
    bins = ((rows - low) / (high - low).clamp(min=1e-12) * BINS).long().clamp(max=BINS - 1).cpu()
    steps = torch.arange(count + 2, dtype=torch.float64)
    grows = torch.diff(torch.special.xlogy(steps, steps))
    held = torch.zeros(bins.shape[1], BINS, dtype=torch.long)
    columns = torch.arange(bins.shape[1])
    left, chosen = order.argsort().tolist(), []
    for _ in range(count):
        first = bins[left[:CANDIDATES]]
        best = int(grows[held[columns, first]].sum(1).argmin())
        chosen.append(left.pop(best))
        held[columns, bins[chosen[-1]]] += 1
    return torch.tensor(sorted(chosen), dtype=torch.long)
