"""One row per cell: what is known before it is computed, what was found, or why there is nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from efface.comparing.plan import Cell
from efface.comparing.store import Store
from efface.running.engines import Failure

__all__ = ["raise_if_nothing", "row_of", "unmeasured"]


def unmeasured(cell: Cell) -> dict[str, Any]:
    """Return what is known of a cell before it is computed."""
    return {
        "entry": cell.entry,
        "method": cell.method,
        "settings": cell.settings,
        "request": cell.asked,
        "seed": cell.seed,
        "seconds": None,
        "train_seconds": None,
        "samples": None,
        "peak_memory": None,
        "notes": [],
        "refused": "",
        "scores": {},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def row_of(cell: Cell, key: str, store: Store, failures: Mapping[str, Failure]) -> dict[str, Any]:
    """Return a cell's result under this plan's names of its row and its request, or why there is none."""
    result = store.result(key) or unmeasured(cell) | {"refused": "not computed yet"}
    if key in failures:
        result = unmeasured(cell) | {"refused": failures[key].words}
    return result | {"entry": cell.entry, "request": cell.asked}


def raise_if_nothing(failures: Mapping[str, Failure], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise the first original's error where nothing at all could be computed because of it."""
    if not any(row["scores"] for row in rows):
        for key, failure in failures.items():
            if key.startswith("original ") and failure.error is not None:
                raise failure.error
