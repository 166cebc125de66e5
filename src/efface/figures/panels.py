"""One small panel of bars for each of many models, all on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from efface.errors import InputError
from efface.figures.style import BLACK, BLUE, canvas, label, look, name_ticks, percent_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_panels"]

COLUMNS = 3


def class_panels(
    names: Sequence[str],
    shares: Mapping[str, Sequence[float | None]],
    reference: Sequence[float | None] | None = None,
    *,
    marked: Sequence[int] = (),
    reference_name: str = "retrain",
    x_label: str = "test accuracy",
) -> Figure:
    """Draw one share per class for each model, and the reference's as a black tick in every panel.

    Args:
        names: Of the classes, from top to bottom.
        shares: Shares in [0, 1] by model, one per class; None leaves a gap.
        reference: The same of the model that all are compared with.
        marked: Positions of classes to set off, e.g. the forgotten ones.
        reference_name: What the reference is called.
        x_label: What the shares are.

    Raises:
        InputError: There is no model, or the lengths differ.
    """
    n = len(names)
    given = [*shares.values(), *([] if reference is None else [reference])]
    if not shares or any(len(column) != n for column in given):
        raise InputError(f"{n} classes, but {[len(c) for c in given]} shares; give one for each class")
    rows = -(-len(shares) // COLUMNS)
    y = np.arange(n)
    with look():
        figure, axes = canvas(60 + rows * (40 + 17 * n), COLUMNS, rows, sharex=True, sharey=True)
        for panel, (title, column) in zip(axes, shares.items(), strict=False):
            panel.barh(y, np.array(column, dtype=float), 0.68, color=BLUE)
            if reference is not None:
                ticks = panel.vlines(np.array(reference, dtype=float), y - 0.45, y + 0.45, color=BLACK, linewidth=2.2)
            panel.set_title(label(title, 30), fontsize=12.5)
            panel.spines["left"].set_visible(False)
        for panel in axes[len(shares) :]:
            panel.set_visible(False)
        axes[0].set(xlim=(0, 1.02), ylim=(n - 0.4, -0.6))
        for panel in axes[::COLUMNS]:
            name_ticks(panel, "y", names, marked)
        percent_ticks(axes[0], "x")
        for panel in axes[max(0, len(shares) - COLUMNS) : len(shares)]:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel(x_label)
        if reference is not None:
            figure.legend([ticks], [label(reference_name)], loc="outside upper left", handlelength=1.2)
    return figure
