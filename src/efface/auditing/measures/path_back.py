"""The path back to the original: how far it is, and what stands in the way. Shown, not judged."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["loss_barrier", "weight_distance"]


def weight_distance(first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
    """Return the Euclidean distance of two models' parameters, sqrt(sum (a - b)^2).

    Args:
        first: Parameters of one model.
        second: Those of the other, of the same shapes in the same order.

    Raises:
        InputError: Their number or shapes differ.

    Source: arXiv 2505.22310.
    """
    ours, theirs = list(first), list(second)
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        raise InputError("The models' parameters differ in number or shape; only likes have a distance.")
    pairs = zip(ours, theirs, strict=True)
    squares = [(a.detach().cpu().double() - b.detach().cpu().double()).pow(2).sum() for a, b in pairs]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def loss_barrier(losses: Tensor) -> float:
    """Return the loss barrier on the straight line between two models.

    max over t of L((1 - t) a + t b) - ((1 - t) L(a) + t L(b)): 0 where the way is downhill or level, which a model that
    was only nudged keeps open; models trained from different weights are apart.

    Args:
        losses: At equally spaced points of the line, both ends included, shape (points,), at least three.

    Raises:
        InputError: Fewer than three points.

    Source: linear mode connectivity, arXiv 1912.05671; for forgetting arXiv 2505.22310.
    """
    if losses.ndim != 1 or len(losses) < 3:
        raise InputError(f"A barrier needs a loss at three points or more; got shape {tuple(losses.shape)}.")
    wide = losses.double()
    t = torch.linspace(0, 1, len(wide), dtype=torch.float64)
    return float((wide - ((1 - t) * wide[0] + t * wide[-1])).max())
