"""Scores of cost: what forgetting took, beside what retraining takes."""

from __future__ import annotations

from efface.auditing.rows import Row
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Score, Scores
from efface.errors import InputError

__all__ = ["MEASURES", "cost_scores", "speedup"]

SECONDS = Measure(
    key="seconds",
    group="cost",
    title="Time",
    unit="seconds",
    best="low",
    reading="Wall time of making this model.",
)

SPEEDUP = Measure(
    key="speedup",
    group="cost",
    title="Faster than retraining",
    unit="ratio",
    best="high",
    reading="Wall time of retraining divided by this model's.",
)

MEASURES = (SECONDS, SPEEDUP)


def cost_scores(row: Row, retrained: Row | None) -> Scores:
    """Return wall time and how many times faster than retraining.

    Args:
        row: The model.
        retrained: The retrained model's row, if there is one.
    """
    if row.seconds is None:
        missing = Score.missing("no time was given for this model")
        return {SECONDS.key: missing, SPEEDUP.key: missing}
    if retrained is None or retrained.seconds is None:
        faster = Score.missing("no retraining time was given")
    elif row.seconds <= 0:
        faster = Score.missing("no measurable time was taken")
    else:
        faster = Score(value=speedup(row.seconds, retrained.seconds))
    return {SECONDS.key: Score(value=row.seconds), SPEEDUP.key: faster}


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
