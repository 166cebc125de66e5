"""Noise floors: the same scores for retrained against retrained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from efface.auditing.catalogue import MEASURES
from efface.auditing.measures.intervals import Interval, prediction_interval
from efface.auditing.scores.score import Score, Scores

__all__ = ["Floors", "clip"]


@dataclass
class Floors:
    """Scores of retrained models, against the retrained model of the table where a score compares two.

    Attributes:
        values: By key, one value per retrained model on which it could be measured.
    """

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, scores: Mapping[str, Score]) -> None:
        """Take note of one retrained model's scores; what was not assessed is left out."""
        for key, score in scores.items():
            if score.value is not None:
                self.values.setdefault(key, []).append(score.value)

    def band(self, key: str, confidence: float) -> Interval:
        """Return the mean and where one more retrained model would score; NaN ends with fewer than two values.

        The ends stay within what the score can be (see `clip`); those of whole steps are whole, rounded outwards.

        Args:
            key: Of the score.
            confidence: Share of further retrained models inside.
        """
        found = self.values.get(key, [])
        if not found:
            return Interval(math.nan, math.nan, math.nan)
        band = prediction_interval(torch.tensor(found, dtype=torch.float64), confidence)
        if not math.isfinite(band.high):
            return band
        low, high = clip(key, band.low), clip(key, band.high)
        if MEASURES[key].unit == "steps":
            low, high = float(math.floor(low)), float(math.ceil(high))
        return Interval(band.value, low, high)

    def beside(self, scores: Scores, confidence: float, alone: Sequence[str]) -> Scores:
        """Return the scores with their floors.

        Args:
            scores: Of any row.
            confidence: Of the floor's interval.
            alone: Keys that one value is a floor for (scores that compare two retrained models); others need two.
        """
        found: Scores = {}
        for key, score in scores.items():
            values = self.values.get(key, [])
            if score.floor is not None or len(values) < (1 if key in alone else 2):
                found[key] = score
                continue
            band = self.band(key, confidence)
            ends = {"floor_low": band.low, "floor_high": band.high}
            known = {end: x for end, x in ends.items() if math.isfinite(x)}
            found[key] = score.model_copy(update={"floor": band.value, **known})
        return found


def clip(key: str, end: float) -> float:
    """Return the end of an interval within what the score can be: 0 to 1 for shares, 0 up for all others but AUS.

    Args:
        key: Of the score.
        end: Of Student's interval, which knows no bounds.
    """
    if MEASURES[key].unit == "share":
        return min(1.0, max(0.0, end))
    return end if key == "aus" else max(0.0, end)
