"""Which canaries were planted in training data: records that nothing but memory can get right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Canaries", "Planted"]


class Canaries(BaseModel):
    """All that it takes to plant the same canaries again.

    A canary is (x + xi, y'), x a training record of label y and xi ~ N(0, epsilon^2 I). Of the first half (and an odd
    one) y' is another label than y, drawn from those of the training data; of the other half it is y.

    Attributes:
        count: How many.
        seed: Of records, labels and noise.
        epsilon: Standard deviation of the noise, in the units of a network's inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=2)
    seed: int
    epsilon: float = Field(gt=0)


@dataclass(frozen=True, eq=False)
class Planted:
    """The canaries in a data set; they follow its own training records.

    Attributes:
        about: How they were made.
        first: Position of the first in the training set: the number of the data's own records.
        sources: Position of the record that each is a copy of, int64, shape (count,).
        mislabelled: Whether its label is wrong, bool, shape (count,).
    """

    about: Canaries
    first: int
    sources: np.ndarray
    mislabelled: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """Positions in the training set, int64, shape (count,)."""
        return np.arange(self.first, self.first + self.about.count)
