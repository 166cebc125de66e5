"""Noise floors: the same scores for retrained against retrained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from efface.auditing.catalogue import MEASURES
from efface.auditing.measures.intervals import Interval, prediction_interval
from efface.auditing.scores.score import Score, Scores

__all__ = ["Floors"]


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

        They stay within what the score can be (see `Measure.clip`); of whole steps they are whole, rounded outwards.

        Args:
            key: Of the score.
            confidence: Share of further retrained models inside.
        """
        found = self.values.get(key, [])
        if not found:
            return Interval(math.nan, math.nan, math.nan)
        measure, values = MEASURES[key], torch.tensor(found, dtype=torch.float64)
        if measure.scale == "size":
            sizes = prediction_interval(values.abs().clamp_min(1e-12).log(), confidence)
            return Interval(0.0, -math.exp(sizes.high), math.exp(sizes.high))
        band = prediction_interval(values, confidence)
        if not math.isfinite(band.high):
            return band
        low, high = measure.clip(band.low), measure.clip(band.high)
        if measure.unit == "steps":
            low, high = float(math.floor(low)), float(math.ceil(high))
        return Interval(band.value, low, high)

    def beside(self, scores: Scores, confidence: float) -> Scores:
        """Return the scores with their floors.

        One value is a floor for a score that compares two retrained models; others need two.

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
