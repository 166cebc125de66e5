"""Scores of cost: time, samples read and memory of forgetting, beside what retraining takes."""

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

SAMPLES = Measure(
    key="samples",
    group="cost",
    title="Training samples read",
    unit="number",
    best="low",
    reading="How often a training sample was read to make this model; passes over one reading are not counted apart.",
)

MEMORY = Measure(
    key="peak_memory",
    group="cost",
    title="Peak memory",
    unit="bytes",
    best="low",
    reading="Most memory held above what was held before; on a CPU sampled, so that short peaks can be missed.",
)

MEASURES = (SECONDS, SPEEDUP, SAMPLES, MEMORY)


def cost_scores(row: Row, retrained: Row | None) -> Scores:
    """Return wall time, how many times faster than retraining, samples read and peak memory.

    Args:
        row: The model; its record knows what it cost.
        retrained: The retrained model's row, if there is one.
    """
    return {**_time(row, retrained), **_spent(row)}


def _spent(row: Row) -> Scores:
    spent = None if row.record is None else row.record.spent
    if spent is None:
        missing = Score.missing("no record says what making this model took")
        return {SAMPLES.key: missing, MEMORY.key: missing}
    if spent.peak_memory is None:
        memory = Score.missing("the system that it was made on does not tell")
    else:
        memory = Score(value=float(spent.peak_memory))
    by_kind = ", ".join(f"{kind} {count}" for kind, count in spent.samples.items() if count)
    return {SAMPLES.key: Score(value=float(spent.touched), why=by_kind), MEMORY.key: memory}


def _time(row: Row, retrained: Row | None) -> Scores:
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
