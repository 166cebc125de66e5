"""The anamnesis index (AIN) of two relearnings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FEW_STEPS", "Relearning", "anamnesis_index"]

FEW_STEPS = 3
"""Steps that are added to both models' before a verdict divides them: a few say nothing where few are needed."""


@dataclass(frozen=True)
class Relearning:
    """How a model relearned.

    Attributes:
        steps: Optimiser steps until the target was reached, or the cap.
        reached: Whether it was reached within the cap.
        accuracies: Forget accuracy after 0, 1, ..., `steps` steps.
    """

    steps: int
    reached: bool
    accuracies: tuple[float, ...]


def anamnesis_index(ours: Relearning, theirs: Relearning) -> float:
    """Return AIN = steps(M_u) / steps(M_r) (arXiv 2201.05629): 1 is best.

    Below 1 knowledge is left, above 1 the model was made hard to teach. A model that never reached the target counts
    with the cap, so the index is then a bound.

    Args:
        ours: The unlearned model's relearning.
        theirs: The retrained model's, with the same target, recipe and cap.

    Returns:
        0 if the unlearned model never left the target; 1 if neither did; infinity if only the retrained model did not.
    """
    if theirs.steps == 0:
        return 1.0 if ours.steps == 0 else float("inf")
    return ours.steps / theirs.steps
