"""A measure: what a score is, declared beside the function that computes it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from efface.auditing.measures.bands import Scale, band, pair_band
from efface.auditing.measures.intervals import Interval

__all__ = ["Group", "Measure"]

Group = Literal["utility", "agreement", "membership", "features", "relearning", "ensembles", "cost"]


class Measure(BaseModel):
    """How to present one score.

    Attributes:
        key: Its name in the scores of a row.
        group: Which section of a report it belongs to.
        title: A few words for a table's header.
        reading: One sentence for a reader who is no researcher.
        unit: `share` (0 to 1, print as percent), `number`, `steps`, `seconds`, `bytes`, `nats` or `ratio`.
        best: `reference` (as close as possible to the retrained model), `high`, `low`, or a target value as text.
        source: Where the definition comes from.
        compares: Whether it compares two models, so that its floor comes from all pairs of retrained ones.
        scale: `size` for a signed score of which only the size varies between retrained models, and by factors: its
            floor is a band around 0, from their sizes' logarithms.
        least: What it cannot fall below; None if it may lie below 0.
        most: What it cannot exceed; None if it has no such bound. Shares lie between 0 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    group: Group
    title: str
    reading: str
    unit: Literal["share", "number", "steps", "seconds", "bytes", "nats", "ratio"]
    best: str
    source: str = ""
    compares: bool = False
    scale: Literal["linear", "size"] = "linear"
    least: float | None = 0.0
    most: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value that it can have; infinite where there is no bound."""
        most = 1.0 if self.unit == "share" else self.most
        return -math.inf if self.least is None else self.least, math.inf if most is None else most

    def clip(self, end: float) -> float:
        """Return the end of an interval within what the score can be.

        Args:
            end: Of an interval that knows no bounds.
        """
        least, most = self.ends
        return min(most, max(least, end))

    def band(self, values: Tensor, confidence: float, *, least: float = 0.0) -> Interval:
        """Return the mean of retrained models' scores and where one more would score, within what the score can be.

        Shares and sizes are judged on their own scales. Of whole steps the spread is at least that of rounding, and the
        ends are whole, rounded outwards.

        Args:
            values: One for each retrained model; of a measure that compares, one for each pair of them.
            confidence: Share of further models inside.
            least: Smallest spread that is believed, on the measure's scale.

        Returns:
            With fewer than two values both ends are NaN.
        """
        scale: Scale = "share" if self.unit == "share" else self.scale
        steps = self.unit == "steps"
        least = max(least, 12**-0.5) if steps else least
        found = (pair_band if self.compares else band)(values, confidence, scale=scale, least=least)
        if not math.isfinite(found.high):
            return found
        low, high = self.clip(found.low), self.clip(found.high)
        return (
            Interval(found.value, float(math.floor(low)), float(math.ceil(high)))
            if steps
            else Interval(found.value, low, high)
        )
