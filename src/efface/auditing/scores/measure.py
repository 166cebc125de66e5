"""A measure: what a score is, declared beside the function that computes it."""

from __future__ import annotations

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
        unit: `share` (0 to 1, print as percent), `number`, `steps`, `seconds`, `nats` or `ratio`.
        best: `reference` (as close as possible to the retrained model), `high`, `low`, or a target value as text.
        source: Where the definition comes from.
        compares: Whether it compares with the retrained model, so that one further retrained model gives it a floor.
        signed: Whether it may lie below 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    group: Group
    title: str
    reading: str
    unit: Literal["share", "number", "steps", "seconds", "nats", "ratio"]
    best: str
    source: str = ""
    compares: bool = False
    signed: bool = False

    def clip(self, end: float) -> float:
        """Return the end of an interval within what the score can be: 0 to 1 for shares, 0 up for most others.

        Args:
            end: Of Student's interval, which knows no bounds.
        """
        if self.unit == "share":
            return min(1.0, max(0.0, end))
        return end if self.signed else max(0.0, end)
