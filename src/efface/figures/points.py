"""Figures of many named points: one number against another, with what no other point beats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from efface.errors import InputError
from efface.figures.style import BLACK, BLUE, GREY, INK, ORANGE, canvas, label, look, percent_ticks
from efface.words import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["front", "points"]

Points = Mapping[str, tuple[float, float]]

LINE = 17.0
"""Pixels between two names."""


def front(at: Points) -> list[str]:
    """Return the points that no other beats: none has a smaller or equal x and a larger or equal y, one of them truly.

    Args:
        at: (x, y) by name.

    Returns:
        Names by rising x.
    """
    ordered = sorted(at, key=lambda name: (at[name][0], -at[name][1]))
    return [
        name
        for name in ordered
        if not any(
            x <= at[name][0] and y >= at[name][1] and (x, y) != at[name]
            for other, (x, y) in at.items()
            if other != name
        )
    ]


def points(
    at: Points,
    *,
    x_label: str,
    y_label: str,
    reference: str | None = None,
    published: Points | None = None,
    seconds: bool = False,
    edge: Collection[str] = (),
) -> Figure:
    """Draw named points; names stand in a column on the right, in the order of y, each with a line to its point.

    Args:
        at: (x, y) by name; y is a share in [0, 1], and so is x unless it is seconds.
        x_label: What x is.
        y_label: What y is.
        reference: The name to set off, usually "retrain".
        published: Where publications put the same names, drawn as rings.
        seconds: Whether x is in seconds, on a logarithmic axis.
        edge: Names joined by a line of steps, e.g. `front`.

    Raises:
        InputError: There is no point, one is not finite, or a time is not positive.
    """
    given = np.array([*at.values(), *(published or {}).values()], dtype=float)
    if not len(at) or not np.isfinite(given).all() or (seconds and (given[:, 0] <= 0).any()):
        raise InputError(f"give one point or more, all finite, times positive; given: {dict(at)}")
    height = max(340, LINE * len(at) + 90)
    with look():
        figure, (axes,) = canvas(height)
        for name, (x, y) in at.items():
            axes.plot(x, y, "D" if name == reference else "o", color=BLACK if name == reference else BLUE, markersize=7)
        for name, place in (published or {}).items():
            axes.annotate("", at[name], place, arrowprops={"arrowstyle": "-", "color": ORANGE, "linestyle": ":"})
            axes.plot(*place, "o", markerfacecolor="none", markeredgecolor=ORANGE, markeredgewidth=2, markersize=9)
        if edge:
            axes.step(
                *zip(*(at[name] for name in edge), strict=True), where="post", color=GREY, linewidth=1.5, zorder=0
            )
        _scales(axes, given, seconds)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(visible=True)
        _named(axes, at, reference, LINE / (height - 60))
    return figure


def _scales(axes: Axes, given: np.ndarray, seconds: bool) -> None:
    """Put shares on what the points need of [0, 1], with room around them; beside times, on all of it."""
    if not seconds:
        axes.set(xlim=_room(given[:, 0]), ylim=_room(given[:, 1]))
        percent_ticks(axes, "x", whole=False)
        percent_ticks(axes, "y", whole=False)
        return
    axes.set_ylim(-0.03, 1.03)
    percent_ticks(axes, "y")
    low, high = given[:, 0].min(), given[:, 0].max()
    axes.set_xscale("log")
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.set_xticks([t for t in 10.0 ** np.arange(-7, 9) if low / 1.5 <= t <= high * 1.5])
    axes.xaxis.set_major_formatter(lambda t, _: duration(t))
    axes.minorticks_off()


def _room(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = max(0.05 * (high - low), 0.01)
    return max(low - room, -0.03), min(high + room, 1.03)


def _named(axes: Axes, at: Points, reference: str | None, gap: float) -> None:
    """Write the names beside the axes, each as near to its point's height as the others leave room."""
    bottom, top = axes.get_ylim()
    names = sorted(at, key=lambda name: (at[name][1], -at[name][0]))
    heights = spread([(at[name][1] - bottom) / (top - bottom) for name in names], gap)
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            label(name),
            at[name],
            (1.05, height),
            textcoords="axes fraction",
            va="center",
            color=BLACK if name == reference else INK,
            fontweight="bold" if name == reference else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": GREY,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 4,
            },
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move rising heights in [0, 1] apart to a distance, each as little as may be, and within [0, 1] if they fit.

    Args:
        heights: In rising order.
        gap: Least distance between two.
    """
    steps = gap * np.arange(len(heights))
    bare = np.asarray(heights) - steps
    # Pushed up, and pushed down: both keep the distance, and so does what lies between them.
    moved = (np.maximum.accumulate(bare) + np.minimum.accumulate(bare[::-1])[::-1]) / 2 + steps
    moved = np.maximum.accumulate(np.maximum(moved, 0.0) - steps) + steps
    held = np.minimum.accumulate((np.minimum(moved, 1.0) - steps)[::-1])[::-1]
    return [float(h) for h in np.minimum(held, 1.0 - steps[-1]) + steps]
