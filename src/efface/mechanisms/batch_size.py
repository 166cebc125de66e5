"""Batch sizes that suit small data: published ones assume sets on which an epoch has many steps."""

from __future__ import annotations

import math

__all__ = ["fitting_batch"]


def fitting_batch(size: int, batch: int, min_steps: int, smallest: int = 8) -> int:
    """Return the largest batch size up to `batch` with which one pass over `size` samples has `min_steps` steps.

    min(batch, max(smallest, floor(size / min_steps))): few-epoch methods do their work in steps times learning rate,
    so a batch of 256 that suits 50,000 samples does nothing on 1,000.

    Args:
        size: Samples per pass.
        batch: The published batch size, never exceeded.
        min_steps: Steps wanted per pass; 0 keeps `batch`.
        smallest: Never go below this (unless `batch` is): gradients and BatchNorm need some samples.
    """
    if min_steps <= 0:
        return batch
    return min(batch, max(smallest, math.floor(size / min_steps)))
