"""Figures of tables: confusion matrices, and a value over two hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from efface.errors import InputError
from efface.figures.style import BLACK, BLUE, WIDTH, canvas, label, look, name_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["confusions", "heat_map"]


def confusions(matrices: Mapping[str, ArrayLike], names: Sequence[str], *, marked: Sequence[int] = ()) -> Figure:
    """Draw confusion matrices side by side, each row as shares of its label.

    Args:
        matrices: By title; counts of shape (classes, classes), rows are labels and columns answers.
        names: Of the classes.
        marked: Positions of classes to set off.

    Raises:
        InputError: There is no matrix, or a shape does not fit the names.
    """
    n = len(names)
    tables = {title: np.asarray(m, dtype=float) for title, m in matrices.items()}
    if not tables or any(m.shape != (n, n) for m in tables.values()):
        raise InputError(f"give confusion matrices of shape {(n, n)}; given: {[m.shape for m in tables.values()]}")
    with look():
        figure, axes = canvas(WIDTH / len(tables) + 40, columns=len(tables), sharey=True)
        for panel, (title, counts) in zip(axes, tables.items(), strict=True):
            total = counts.sum(1, keepdims=True)
            rows = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
            _cells(panel, rows, vmin=0, vmax=1, percent=True)
            panel.set(title=label(title), xlabel="answer")
            panel.set_aspect("equal")
            if n <= 30:
                name_ticks(panel, "x", names, marked, shift=0.5)
                name_ticks(panel, "y", names, marked, shift=0.5)
            else:
                panel.set(xticks=[], yticks=[])
        axes[0].set_ylabel("label")
    return figure


def heat_map(
    values: ArrayLike,
    x: Sequence[object],
    y: Sequence[object],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    percent: bool = True,
) -> Figure:
    """Draw a value over a grid of two hyper-parameters; cells without a value are left blank.

    Args:
        values: Shape (len(y), len(x)); NaN where nothing was measured. A pandas pivot table will do.
        x: Column values.
        y: Row values; the first is at the bottom.
        x_label: Name of the column's parameter.
        y_label: Name of the row's parameter.
        title: What is shown.
        percent: Whether values are shares in [0, 1].

    Raises:
        InputError: The shape does not fit.
    """
    table = np.asarray(values, dtype=float)
    if table.shape != (len(y), len(x)) or not table.size:
        raise InputError(f"values of shape {table.shape} do not fit {len(y)} rows and {len(x)} columns")
    with look():
        figure, (axes,) = canvas(max(230, 90 + 40 * len(y)), width=min(WIDTH, 190 + 72 * len(x)))
        ends = (0, 1) if percent else (None, None)
        mesh = _cells(axes, table, vmin=ends[0], vmax=ends[1], percent=percent, downwards=False)
        axes.set_xticks(np.arange(len(x)) + 0.5, [label(v, 10) for v in x])
        axes.set_yticks(np.arange(len(y)) + 0.5, [label(v, 10) for v in y])
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)
        if percent:
            bar.ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f}\u00a0%")
    return figure


def _sequential() -> Colormap:
    """White to dark blue, its lightness falling evenly: readable in grey print."""
    from matplotlib.colors import LinearSegmentedColormap

    blues = LinearSegmentedColormap.from_list("efface", ["#f4f7fa", "#b5d4ea", "#4f9fd0", BLUE, "#003a5c"])
    return blues.with_extremes(bad="white")


def _cells(
    axes: Axes, table: np.ndarray, *, vmin: float | None, vmax: float | None, percent: bool, downwards: bool = True
) -> QuadMesh:
    n, m = table.shape
    masked = np.ma.masked_invalid(table)
    small = n <= 12 and m <= 14
    mesh = axes.pcolormesh(masked, cmap=_sequential(), vmin=vmin, vmax=vmax, rasterized=n * m > 900)
    mesh.set(edgecolor="white", linewidth=1.5 if small else 0)
    shade: np.ndarray = np.ma.filled(np.ma.asarray(mesh.norm(masked)), 0.0)
    for i, j in np.argwhere(np.isfinite(table)) if small else ():
        value = table[i, j]
        text = f"{100 * value:.0f}" if percent else f"{value:.3g}"
        if text != "0" or not downwards:
            ink = "white" if float(shade[i, j]) > 0.55 else BLACK
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=11.5, color=ink)
    axes.set_ylim((n, 0) if downwards else (0, n))
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh
