"""From intervals to scores: what the questions of an audit share when they report a number."""

from __future__ import annotations

from torch import Tensor

from efface.auditing.intervals import Interval, bootstrap_mean, paired_gap, wilson
from efface.auditing.questions import asked
from efface.auditing.result import Score
from efface.auditing.subject import Scene

__all__ = [
    "ITS_OWN",
    "NO_REFERENCE",
    "Scores",
    "mean_score",
    "scored",
    "share_score",
    "strict",
    "with_gap",
]

Scores = dict[str, Score]

NO_REFERENCE = "no retrained model was given"
ITS_OWN = "this is the retrained model itself"


def strict(scene: Scene) -> float:
    """Return the confidence of one gap, Bonferroni's share of the verdict's: 1 - (1 - confidence) / questions asked."""
    return 1 - (1 - scene.settings.confidence) / len(asked(by_class=scene.by_class))


def scored(interval: Interval, why: str = "") -> Score:
    """Return a measured score with its interval."""
    return Score(value=interval.value, low=interval.low, high=interval.high, why=why)


def with_gap(score: Score, gap: Interval) -> Score:
    """Return the score with its gap to the retrained model (or to what chance gives)."""
    return score.model_copy(update={"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high})


def share_score(hits: Tensor, theirs: Tensor | None, scene: Scene, why: str = "") -> Score:
    """Return a share of records with Wilson's interval, and its paired gap to the same records under another model.

    Args:
        hits: bool or 0 and 1, shape (records,).
        theirs: The retrained model's on the same records, or None.
        scene: Gives the confidences.
        why: What to know when reading it.
    """
    score = scored(wilson(float(hits.sum()), len(hits), scene.settings.confidence), why)
    return score if theirs is None else with_gap(score, paired_gap(hits, theirs, strict(scene)))


def mean_score(values: Tensor, scene: Scene, purpose: str, resamples: int, why: str = "") -> Score:
    """Return a mean over records with its bootstrap interval.

    Args:
        values: Finite, shape (records,).
        scene: Gives randomness and confidence.
        purpose: What the resamples are for.
        resamples: 0 for the value only.
        why: What to know when reading it.
    """
    if not resamples:
        return Score(value=float(values.mean()), why=why)
    generator = scene.run.generator(f"audit/bootstrap/{purpose}")
    return scored(bootstrap_mean(values, generator, resamples=resamples, confidence=scene.settings.confidence), why)
