"""A measure: what a score is, declared beside the function that computes it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

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
        compares: Whether it compares with the retrained model, so that one further retrained model gives it a floor.
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
            end: Of Student's interval, which knows no bounds.
        """
        least, most = self.ends
        return min(most, max(least, end))
