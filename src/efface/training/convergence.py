"""Whether training ended while its loss still fell: an original that is not finished makes audits that say little."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from efface.training.recipe import Recipe

__all__ = ["FALLING", "OF_GUESSING", "still_falling"]

FALLING = 0.01
"""Share of its loss that the last epoch took off, above which training at a constant rate is unfinished."""

OF_GUESSING = 0.1
"""Share of the loss of guessing, below which there is little left to learn, however fast the loss falls."""


def still_falling(rows: Sequence[Mapping[str, float | str]], recipe: Recipe, classes: int) -> str | None:
    """Return a sentence if training ended while its loss still fell, else None.

    With L and L' the mean losses of the last whole epoch and of the one before, it did if (L' - L) / L' > `FALLING` and
    L > `OF_GUESSING` log C. A rate that is annealed makes the loss fall to the end, so only a constant one is judged.

    Args:
        rows: The history of training: one row an epoch, with its `loss` in nats.
        recipe: How it was trained.
        classes: C.
    """
    losses = [float(row["loss"]) for row in rows if "loss" in row]
    if recipe.schedule != "constant" or recipe.epochs % 1 or len(losses) < 2:
        return None
    before, last = losses[-2:]
    if before - last <= FALLING * before or last <= OF_GUESSING * math.log(classes):
        return None
    return (
        f"training ended while its loss still fell ({before:.3g}, then {last:.3g} in the last epoch); models retrained "
        f"by this recipe are unfinished too and differ much, so that audits tell little: train longer or at another "
        f"rate (now epochs={recipe.epochs:g}, lr={recipe.lr:g})"
    )
