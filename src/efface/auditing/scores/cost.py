"""Scores of cost: what forgetting took, beside what retraining takes."""

from __future__ import annotations

from collections.abc import Mapping

from efface.auditing.scores.score import Score, Scores
from efface.errors import InputError

__all__ = ["cost_scores", "speedup"]


def cost_scores(name: str, seconds: Mapping[str, float], reference: str | None) -> Scores:
    """Return wall time and how many times faster than retraining.

    Args:
        name: The row.
        seconds: Wall times by row, as far as they are known.
        reference: Name of the retrained model's row, or None.
    """
    if name not in seconds:
        why = "no time was given for this model"
        return {"seconds": Score.missing(why), "speedup": Score.missing(why)}
    scores = {"seconds": Score(value=seconds[name])}
    if reference is None or reference not in seconds:
        scores["speedup"] = Score.missing("no retraining time was given")
    elif seconds[name] <= 0:
        scores["speedup"] = Score.missing("no measurable time was taken")
    else:
        scores["speedup"] = Score(value=speedup(seconds[name], seconds[reference]))
    return scores


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
