"""Noise floors: the same scores for retrained against retrained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from efface.auditing.catalogue import MEASURES
from efface.auditing.measures.intervals import Interval
from efface.auditing.scores.score import Score, Scores

__all__ = ["Floors"]


@dataclass
class Floors:
    """Scores of retrained models, of all pairs of them where a score compares two.

    Attributes:
        values: By key, one value per retrained model, or pair of them, on which it could be measured.
    """

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, scores: Mapping[str, Score]) -> None:
        """Take note of the scores of one retrained model, or of one pair; what was not assessed is left out."""
        for key, score in scores.items():
            if score.value is not None:
                self.values.setdefault(key, []).append(score.value)

    def band(self, key: str, confidence: float) -> Interval:
        """Return the mean and where one more retrained model would score; NaN ends with fewer than two values.

        See `Measure.band`.

        Args:
            key: Of the score.
            confidence: Share of further retrained models inside.
        """
        found = self.values.get(key, [])
        if not found:
            return Interval(math.nan, math.nan, math.nan)
        return MEASURES[key].band(torch.tensor(found, dtype=torch.float64), confidence)

    def beside(self, scores: Scores, confidence: float) -> Scores:
        """Return the scores with their floors.

        One pair is a floor for a score that compares two retrained models; others need two models.

        Args:
            scores: Of any row.
            confidence: Of the floor's interval.
        """
        found: Scores = {}
        for key, score in scores.items():
            if score.floor is not None or len(self.values.get(key, [])) < (1 if MEASURES[key].compares else 2):
                found[key] = score
                continue
            band = self.band(key, confidence)
            ends = {"floor_low": band.low, "floor_high": band.high}
            known = {end: x for end, x in ends.items() if math.isfinite(x)}
            found[key] = score.model_copy(update={"floor": band.value, **known})
        return found
