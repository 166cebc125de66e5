"""A score: a number with its interval, gap and floor, and the ways to make one."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from torch import Tensor

from efface.auditing.measures.intervals import Interval, bootstrap_mean, paired_gap, wilson
from efface.auditing.records import Records

__all__ = [
    "ITS_OWN",
    "NO_REFERENCE",
    "Score",
    "Scores",
    "mean_score",
    "scored",
    "share_score",
    "with_gap",
]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A finite number, or None: JSON knows neither NaN nor infinity."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(Frozen):
    """One number with what is needed to read it.

    Attributes:
        value: The score; None when not assessed.
        low: Lower end of its 95 % interval; None where there is none.
        high: Upper end.
        floor: The same score for retrained against retrained models; None with fewer than two of them.
        floor_low: Lower end of where another retrained model would score.
        floor_high: Upper end.
        original: The same score for the original model; None in its own row or where not measured.
        reference: The same score for the retrained model; None without one.
        gap: This score minus the retrained model's on the same records; None where it is not compared.
        gap_low: Lower end of the gap's interval, over records (simultaneous over the verdict's checks).
        gap_high: Upper end.
        status: Whether it was measured.
        why: Why not, or what to know when reading it (sub-sample, cap, least false-positive rate).
        bound: The side on which the value is only a bound, e.g. "at least" where a cap was reached.
    """

    value: Number = None
    low: Number = None
    high: Number = None
    floor: Number = None
    floor_low: Number = None
    floor_high: Number = None
    original: Number = None
    reference: Number = None
    gap: Number = None
    gap_low: Number = None
    gap_high: Number = None
    status: Literal["measured", "not assessed"] = "measured"
    why: str = ""
    bound: Literal["", "at least", "at most"] = ""

    @model_validator(mode="before")
    @classmethod
    def _bound_of_old_audits(cls, given: Any) -> Any:
        """Audits from before `bound` said it in the first words of `why`."""
        if not isinstance(given, dict) or "bound" in given:
            return given
        why = str(given.get("why", ""))
        return {**given, "bound": next((b for b in ("at least", "at most") if why.startswith(b)), "")}

    @model_validator(mode="before")
    @classmethod
    def _no_number_no_measurement(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("status") == "not assessed":
            return given
        value = given.get("value")
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            what = "no value was given" if value is None else f"the value came out as {value}"
            why = "; ".join(x for x in (given.get("why", ""), what) if x)
            return {**given, "value": None, "status": "not assessed", "why": why}
        return given

    @classmethod
    def missing(cls, why: str) -> Score:
        """Return a score that was not assessed, saying why."""
        return cls(status="not assessed", why=why)

    @property
    def measured(self) -> bool:
        """Whether there is a value."""
        return self.status == "measured"


Scores = dict[str, Score]


NO_REFERENCE = "no retrained model was given"

ITS_OWN = "this is the retrained model itself"


def scored(interval: Interval, why: str = "") -> Score:
    """Return a measured score with its interval."""
    return Score(value=interval.value, low=interval.low, high=interval.high, why=why)


def with_gap(score: Score, gap: Interval) -> Score:
    """Return the score with its gap to the retrained model (or to what chance gives)."""
    return score.model_copy(update={"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high})


def share_score(hits: Tensor, theirs: Tensor | None, records: Records, why: str = "") -> Score:
    """Return a share of records with Wilson's interval, and its paired gap to the same records under another model.

    Args:
        hits: bool or 0 and 1, shape (records,).
        theirs: The retrained model's on the same records, or None.
        records: Gives the confidences.
        why: What to know when reading it.
    """
    score = scored(wilson(float(hits.sum()), len(hits), records.settings.confidence), why)
    return score if theirs is None else with_gap(score, paired_gap(hits, theirs, records.simultaneous_confidence))


def mean_score(values: Tensor, records: Records, purpose: str, resamples: int, why: str = "") -> Score:
    """Return a mean over records with its bootstrap interval.

    Args:
        values: Finite, shape (records,).
        records: Gives randomness and confidence.
        purpose: What the resamples are for.
        resamples: 0 for the value only.
        why: What to know when reading it.
    """
    if not resamples:
        return Score(value=float(values.mean()), why=why)
    generator = records.run.generator(f"audit/bootstrap/{purpose}")
    return scored(bootstrap_mean(values, generator, resamples=resamples, confidence=records.settings.confidence), why)
