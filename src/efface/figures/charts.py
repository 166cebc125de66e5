"""Figures from plain arrays: for the report's page and for tables of comparisons.

Each function returns a matplotlib figure that `efface.figures.style.save` writes to a file and `svg` turns into
a piece of a page. Matplotlib is imported when one of them is called, and only its figure object is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.errors import InputError
from efface.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    canvas,
    label,
    look,
    name_ticks,
    percent_ticks,
)
from efface.words import duration, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["class_bars", "curves", "histograms", "time_bars"]

_LINES = ((BLUE, "-"), (VERMILLION, "-"), (BLACK, "--"), (GREEN, "-."), (PURPLE, "-"), (ORANGE, "--"), (SKY, "-."))


def class_bars(
    names: Sequence[str],
    before: Sequence[float | None],
    after: Sequence[float | None],
    reference: Sequence[float | None] | None = None,
    *,
    marked: Sequence[int] = (),
    series: tuple[str, str, str] = ("original", "candidate", "retrained"),
    x_label: str = "test accuracy",
) -> Figure:
    """Draw one share per class before and after, and the reference's as a black tick.

    Args:
        names: Of the classes, from top to bottom.
        before: Shares in [0, 1], one per class; None leaves a gap.
        after: The same.
        reference: The same, if there is a retrained model.
        marked: Positions of classes to set off, e.g. the forgotten ones.
        series: What the three are called.
        x_label: What the shares are.

    Raises:
        InputError: The lengths differ.
    """
    n = len(names)
    columns = {series[0]: before, series[1]: after, **({series[2]: reference} if reference is not None else {})}
    if any(len(column) != n for column in columns.values()):
        raise InputError(f"{n} classes, but {[len(c) for c in columns.values()]} shares; give one for each class")
    first, second, third = (_floats(c) for c in (before, after, reference if reference is not None else [None] * n))
    y = np.arange(n)
    with look():
        figure, (axes,) = canvas(74 + 34 * n)
        drawn: list[Any] = [
            axes.barh(y - 0.2, first, 0.36, color=GREY),
            axes.barh(y + 0.2, second, 0.36, color=BLUE),
        ]
        if reference is not None:
            drawn.append(axes.vlines(third, y - 0.42, y + 0.42, color=BLACK, linewidth=2.6, clip_on=False))
        for i in range(n):
            known = [v for v in (first[i], second[i], third[i]) if np.isfinite(v)]
            texts = [f"{100 * v:.0f}" if np.isfinite(v) else "–" for v in (first[i], second[i])]
            axes.text(max(known, default=0.0) + 0.012, y[i], " → ".join(texts), va="center", fontsize=12, color=INK)
        name_ticks(axes, "y", names, marked)
        axes.set(xlim=(0, 1.09), ylim=(n - 0.4, -0.6), xlabel=x_label)
        percent_ticks(axes, "x")
        axes.spines["left"].set_visible(False)
        named = [label(s) for s in series[: len(drawn)]]
        figure.legend(drawn, named, loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.8)
    return figure


def curves(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    x_label: str,
    y_label: str,
    percent: bool = True,
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    styles: Mapping[str, tuple[str, str]] | None = None,
    height: float = 320,
) -> Figure:
    """Draw lines over a common axis, each named at its right end.

    Args:
        x: Positions, shape (points,).
        series: Values by name, shape (points,) or shorter; NaN leaves a gap.
        x_label: What x is.
        y_label: What the values are.
        percent: Whether values are shares in [0, 1].
        bands: Lower and upper ends of an interval around a line, by its name.
        styles: Colour and dashes of a line, by its name; others get the palette's in turn.
        height: In pixels.

    Raises:
        InputError: There is no line, or one is longer than x.
    """
    at = np.asarray(x, dtype=float)
    lines = {name: np.asarray(values, dtype=float) for name, values in series.items()}
    if not lines or any(v.ndim != 1 or len(v) > len(at) or not len(v) for v in lines.values()):
        raise InputError(
            f"give one to {len(at)} values for each line; given: { {k: v.shape for k, v in lines.items()} }"
        )
    with look():
        figure, (axes,) = canvas(height)
        ends = []
        for i, (name, values) in enumerate(lines.items()):
            colour, dashes = (styles or {}).get(name, _LINES[i % len(_LINES)])
            mark = "o" if len(values) <= 40 else ""
            axes.plot(at[: len(values)], values, dashes, color=colour, marker=mark, markersize=4.5)
            if bands and name in bands:
                low, high = (np.asarray(b, dtype=float) for b in bands[name])
                axes.fill_between(at[: len(low)], low, high, color=colour, alpha=0.15, linewidth=0)
            seen = np.flatnonzero(np.isfinite(values))
            if len(seen):
                ends.append((at[seen[-1]], float(values[seen[-1]]), label(name), colour))
        if percent:
            axes.set_ylim(-0.03, 1.03)
            percent_ticks(axes, "y")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(axis="y")
        _name_ends(axes, ends, gap=18 / (height - 60))
    return figure


def histograms(panels: Mapping[str, Mapping[str, ArrayLike]], edges: ArrayLike, *, x_label: str = "margin") -> Figure:
    """Draw histograms as shares of records: one panel per model, each with its own height, in it one outline per part.

    Args:
        panels: Counts by panel, then by part: shape (bins,); the first part is filled, the others are outlines.
        edges: Shape (bins + 1,).
        x_label: What was counted.

    Raises:
        InputError: There is no panel, or counts do not fit the edges.
    """
    cuts = np.asarray(edges, dtype=float)
    table = {p: {k: np.asarray(c, dtype=float) for k, c in parts.items()} for p, parts in panels.items()}
    if not table or any(c.shape != (len(cuts) - 1,) for parts in table.values() for c in parts.values()):
        raise InputError(f"give histograms of {len(cuts) - 1} counts each, to fit {len(cuts)} edges")
    with look():
        figure, axes = canvas(70 + 118 * len(table), rows=len(table), sharex=True)
        named: dict[str, Any] = {}
        for panel, (title, parts) in zip(axes, table.items(), strict=True):
            for i, (part, counts) in enumerate(parts.items()):
                shares = counts / max(counts.sum(), 1)
                colour = ORANGE if i == 0 else _LINES[i - 1][0]
                drawn = panel.stairs(shares, cuts, fill=i == 0, color=colour, linewidth=0 if i == 0 else 2.2)
                named.setdefault(part, drawn)
            panel.set_title(label(title, 60), fontsize=13)
            panel.set_yticks([])
            panel.spines["left"].set_visible(False)
        axes[-1].set_xlabel(x_label)
        figure.legend(list(named.values()), [label(p, 40) for p in named], loc="outside upper left", ncols=3)
    return figure


def time_bars(seconds: Mapping[str, float], *, reference: str | None = None, marked: str | None = None) -> Figure:
    """Draw wall times on a logarithmic axis, each with its ratio to the reference.

    Args:
        seconds: By name, positive.
        reference: The name that others are compared with, usually "retrained".
        marked: The name to set off.

    Raises:
        InputError: There is no time, or one is not positive.
    """
    if not seconds or not all(np.isfinite(s) and s > 0 for s in seconds.values()):
        raise InputError(f"a logarithmic axis needs positive times; given: {dict(seconds)}")
    base = seconds.get(reference) if reference else None
    names, values = list(seconds), np.array(list(seconds.values()), dtype=float)
    with look():
        figure, (axes,) = canvas(54 + 34 * len(names))
        colours = [BLUE if n == marked else BLACK if n == reference else GREY for n in names]
        low, high = 10 ** np.floor(np.log10(values.min()) - 0.3), values.max()
        axes.barh(range(len(names)), values, 0.56, color=colours)
        for i, (name, value) in enumerate(seconds.items()):
            text = duration(value)
            if base is not None and name != reference:
                faster = value < base
                text += f" · {ratio(base / value if faster else value / base)} {'faster' if faster else 'slower'}"
            axes.annotate(text, (value, i), (7, 0), textcoords="offset points", va="center", fontsize=12, color=INK)
        axes.set_xscale("log")
        # Room on the right for the text behind the longest bar.
        axes.set(xlim=(low, high * (high / low) ** 0.45), ylim=(len(names) - 0.45, -0.55))
        axes.set_xlabel("wall time, logarithmic")
        axes.set_xticks([t for t in 10.0 ** np.arange(-7, 9) if low <= t <= high * 1.001])
        axes.xaxis.set_major_formatter(lambda t, _: duration(t))
        axes.minorticks_off()
        name_ticks(axes, "y", names, [names.index(marked)] if marked in names else [], colour=BLUE)
        axes.spines["left"].set_visible(False)
    return figure


def _floats(column: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else float(v) for v in column])


def _name_ends(axes: Axes, ends: list[tuple[float, float, str, str]], gap: float) -> None:
    """Names at the right ends of lines, moved apart where they would lie on each other."""
    bottom, top = axes.get_ylim()
    left, right = axes.get_xlim()
    placed: list[tuple[float, float]] = []
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        place = y
        for near, height in placed:
            if abs(near - x) < 0.2 * (right - left):
                place = max(place, height + gap * (top - bottom))
        placed.append((x, place))
        axes.annotate(
            name, (x, place), (9, 0), textcoords="offset points", va="center", color=colour, fontweight="bold",
            annotation_clip=False,
        )  # fmt: skip
