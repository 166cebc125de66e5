"""Figures of a comparison: forgetting times, and heat maps over a grid of two hyper-parameters."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from efface.comparing.plan import Entry, Plan
from efface.report.figures.charts import time_bars
from efface.report.figures.heat_maps import heat_map
from efface.report.figures.style import save

__all__ = ["draw"]


def draw(plan: Plan, frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write seconds.png where several methods were timed, and A_R and E_F heat maps for entries with a grid of two.

    Args:
        plan: What was compared.
        frame: One row per cell, as in results.csv.
        folder: Where the files go.
    """
    files = []
    seconds = frame.groupby("entry", sort=False).seconds.mean().dropna()
    if len(seconds) > 1:
        reference = next((e.name for e in plan.methods if e.method == "retrain"), None)
        bars = time_bars({str(k): float(v) for k, v in seconds.sort_values().items()}, reference=reference)
        files.append(save(bars, folder / "seconds.png"))
    for entry in plan.methods:
        if len(entry.grid) == 2:
            files += _heat_maps(entry, frame[frame.entry == entry.name], folder)
    return files


def _heat_maps(entry: Entry, cells: pd.DataFrame, folder: Path) -> list[Path]:
    down, across = entry.grid
    files = []
    for column, title in (("A_R", "Accuracy on kept classes"), ("E_F", "Error on forgotten classes")):
        if column in cells:
            table = cells.pivot_table(index=down, columns=across, values=column, aggfunc="mean") / 100
            figure = heat_map(
                table.to_numpy(), list(table.columns), list(table.index), x_label=across, y_label=down, title=title
            )
            name = "".join(c if c.isalnum() else "-" for c in entry.name).strip("-")
            files.append(save(figure, folder / f"{name}-{column}.png"))
    return files
