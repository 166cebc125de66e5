"""The cells of a comparison by the rows of its table: one for each entry, and one for each combination of a grid."""

from __future__ import annotations

import pandas as pd

from efface.comparing.as_long import COLUMNS as AS_LONG
from efface.comparing.as_long import WHY
from efface.comparing.columns import COLUMNS
from efface.comparing.plan import Entry, Plan

__all__ = ["TAKEN", "by_row", "column_of"]

TAKEN = frozenset(
    {
        *("entry", "method", "request", "seed", "settings", "level", "outcome", "useful", "bounds", "refused", "notes"),
        *("seconds", "train_seconds", "of_retrain", "samples", "peak_memory", WHY, *AS_LONG),
        *(column.name for column in COLUMNS),
    }
)
"""Columns of results.csv beside the settings that grids vary and the measures of the user's own."""


def column_of(setting: str) -> str:
    """Return the column of a setting that a grid varies: its name, set off where another column has it."""
    return f"setting {setting}" if setting in TAKEN else setting


def by_row(plan: Plan, frame: pd.DataFrame) -> dict[str, tuple[Entry, pd.DataFrame]]:
    """Return every row's entry and cells by its name: that of the entry, and the settings that its grid varies.

    Args:
        plan: What was compared.
        frame: One row per cell, as in results.csv.
    """
    found = {}
    for entry in plan.methods:
        cells = frame[frame.entry == entry.name]
        if not entry.grid:
            found[entry.name] = (entry, cells)
            continue
        for values, part in cells.groupby([column_of(k) for k in entry.grid], sort=False, dropna=False):
            said = ", ".join(
                f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in zip(entry.grid, values, strict=True)
            )
            found[f"{entry.name}, {said}"] = (entry, part)
    return found
