"""Retraining for as long in a comparison: beside each method, what training anew gives in the time that it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from scipy.stats import t as student

__all__ = ["COLUMNS", "as_long_columns", "as_long_table"]

FIELDS = ("seconds", "A_R", "E_F")

COLUMNS = tuple(f"as_long_{name}" for name in FIELDS)
"""In results.csv: seconds, A_R and E_F of a model retrained for as long as the cell's method took."""

WHY = "as_long"
"""In results.csv: why there is no such model."""


def as_long_columns(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a cell's columns for results.csv; `found` is None for the original, and in cells of earlier versions."""
    values = found or {}
    return {f"as_long_{name}": values.get(name) for name in FIELDS} | {WHY: values.get("missing", "")}


def as_long_table(rows: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield a table of every row beside retraining for as long as it took, and where it stands to that.

    Kept accuracy A_R and error on the forgotten E_F are compared in pairs of one request and seed: with two pairs or
    more a difference counts if Student's 95 % interval of its mean leaves out 0. E_F of retraining is what forgetting
    should give, so that a higher one is not taken for better.

    Args:
        rows: The cells of each row of the comparison's table, as in results.csv, by the row's name. Without accuracies
            of the methods themselves there is nothing to compare.
    """
    made = {name: cells[cells[COLUMNS[0]].notna()] for name, cells in rows.items() if {"A_R", "E_F"} <= set(cells)}
    made = {name: cells for name, cells in made.items() if len(cells)}
    missing = pd.concat([cells[cells[WHY] != ""] for cells in rows.values()])
    if not made and missing.empty:
        return
    yield (
        "Retraining for as long: the same recipe from new weights on the kept data, its schedule shortened to the time "
        "that forgetting took. A method that keeps no more than that row has no use."
    )
    yield ""
    if made:
        there = "of that retraining"
        yield f"| method | pairs | seconds | {there} | A_R | {there} | E_F | {there} | kept accuracy |"
        yield "| --- " * 9 + "|"
    for name, cells in made.items():
        numbers = [f"{cells.seconds.mean():.3g} | {cells[COLUMNS[0]].mean():.3g}"]
        numbers += [f"{cells[name].mean():.1f} | {cells[f'as_long_{name}'].mean():.1f}" for name in ("A_R", "E_F")]
        yield f"| {name} | {len(cells)} | {' | '.join(numbers)} | {_stands(cells['A_R'] - cells['as_long_A_R'])} |"
    for (entry, why), cells in missing.groupby(["entry", WHY], sort=False):
        yield f"\nNot measured: {entry} ({len(cells)} cells): {why}."
    yield ""


def _stands(gaps: pd.Series) -> str:
    """Return where kept accuracy stands, from its differences in points."""
    mean, pairs = float(gaps.mean()), len(gaps)
    if pairs < 2:
        return f"{mean:+.1f} (one pair: no interval)"
    half = float(student.ppf(0.975, pairs - 1) * gaps.std() / pairs**0.5)
    word = "above" if mean > half else "below" if mean < -half else "no difference shown"
    return f"{word}: {mean:+.1f} ± {half:.1f}"
