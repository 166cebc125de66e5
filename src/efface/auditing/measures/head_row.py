"""The head's rows: does the last layer itself name the forgotten class?"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["row_z_scores"]

LEAST_ROWS = 3
"""Kept rows from which a spread among them says anything."""


def row_z_scores(values: Tensor, forgotten: Iterable[int]) -> Tensor:
    """Return how far the forgotten classes' rows lie from the kept ones, in standard deviations of the kept ones.

    z_f = (v_f - mean of v_c) / standard deviation of v_c over kept classes c, v a bias or the norm of a row of weights.
    A bias lowered by hand, or a row drawn anew among trained ones, names the class that was to be forgotten. A spread
    below 1e-12 counts as 1e-12, so that rows which all agree make any other row stand out.

    Args:
        values: One number for each class, shape (classes,).
        forgotten: Class numbers.

    Returns:
        float64, shape (forgotten,), in ascending order of class.

    Raises:
        InputError: No class is forgotten, fewer than three are kept, or a value is not finite.

    Source: arXiv 2605.08730 (a lowered bias names the class); the z-score is ours.
    """
    gone = sorted(set(forgotten))
    kept = [c for c in range(len(values)) if c not in gone]
    if not gone or len(kept) < LEAST_ROWS:
        raise InputError(
            f"{len(gone)} forgotten rows are compared with {len(kept)} kept ones; at least one and {LEAST_ROWS} are "
            "needed."
        )
    wide = values.detach().cpu().double()
    if not bool(wide.isfinite().all()):
        raise InputError("The head's rows must be finite; look at the model's weights.")
    others = wide[kept]
    return (wide[gone] - others.mean()) / torch.clamp(others.std(), min=1e-12)
