"""Cost: what forgetting took, beside what retraining takes on the same machine."""

from __future__ import annotations

from efface.errors import InputError

__all__ = ["speedup"]


def speedup(seconds: float, retraining: float) -> float:
    """Return how many times faster than retraining, t_retrain / t.

    Both times must come from the same device.

    Args:
        seconds: Wall time of the method.
        retraining: Wall time of retraining without the data.

    Raises:
        InputError: If a time is negative or the method's is 0.
    """
    if seconds <= 0 or retraining < 0:
        raise InputError(f"Times of {seconds} s and {retraining} s give no ratio; measure both with a clock.")
    return retraining / seconds
