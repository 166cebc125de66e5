"""A comparison as a page: tables that sort and filter in the browser, figures, and what failed; nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import pandas as pd

from efface import __version__
from efface.comparing.as_long import COLUMNS as AS_LONG
from efface.comparing.as_long import WHY
from efface.comparing.figures import Picture
from efface.comparing.grouped import column_of
from efface.figures.illustration import Illustration
from efface.report.templates import environment
from efface.words import count

if TYPE_CHECKING:
    from efface.comparing.results import Comparison

__all__ = ["Column", "Table", "Value", "html"]

MOST_CELLS = 5000
"""Cells that the page lists; results.csv has all."""

WORDS = ("entry", "method", "request", "level", "outcome", "useful", "refused")
"""Columns of results.csv that hold words."""

LEFT_OUT = {"method", "bounds", "notes", WHY, *AS_LONG}
"""Columns of results.csv that the page's list of cells leaves out."""

TITLES = {"entry": "method", "refused": "failed"}


@dataclass(frozen=True)
class Column:
    """One column of a table on the page.

    Attributes:
        name: Its header.
        meaning: What it is, for a pointer that rests on the header; may be empty.
        words: Whether it holds words, not numbers.
        choices: What a reader may pick rows by, where it takes few values.
    """

    name: str
    meaning: str = ""
    words: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """One cell of a table on the page.

    Attributes:
        text: As it is printed.
        number: By which it is sorted; None for words, and where there is none, which stands last.
    """

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """A table on the page.

    Attributes:
        id: Unique on the page.
        caption: What a row is.
        columns: The first names the row.
        rows: One value per column.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


def html(comparison: Comparison, pictures: Sequence[Picture] = ()) -> str:
    """Return the page: inline style, figures and one script of ours, which a hash names; every value is escaped.

    Without that script the tables stand complete, in the order of the plan.

    Args:
        comparison: What was found.
        pictures: Its figures.
    """
    script = files("efface.comparing").joinpath("comparison.js").read_text(encoding="utf-8")
    mark = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    figures = {
        f"figure-{i}": Illustration.of(p.figure, str(i), p.title, p.caption, p.head, p.rows)
        for i, p in enumerate(pictures, start=1)
    }
    return (
        environment("comparing", "report")
        .get_template("comparison.html.jinja")
        .render(
            facts_of=_facts(comparison),
            failed=_failed(comparison),
            figures=figures,
            meaning={c: comparison.meaning[c] for c in comparison.columns},
            plan=comparison.plan,
            remarks=comparison.remarks(),
            script=script,
            script_hash=mark,
            tables=[methods_table(comparison), cells_table(comparison)],
            version=__version__,
        )
    )


def methods_table(comparison: Comparison) -> Table:
    """Return one row per method and settings: means and deviations, published figures beside them."""
    header, *rows = comparison.table_rows(by_request=False)
    meaning, settings = comparison.meaning, {column_of(k) for e in comparison.plan.methods for k in e.grid}
    columns = [
        Column(name, meaning.get(name, ""), words=name == "method" or (name in settings and not _numbers(rows, i)))
        for i, name in enumerate(header)
    ]
    return Table("methods", "One row per method, means ± standard deviation", tuple(columns), _values(columns, rows))


def cells_table(comparison: Comparison) -> Table:
    """Return one row per cell."""
    frame = comparison.frame.drop(columns=[c for c in comparison.frame if c in LEFT_OUT])
    frame = frame.dropna(axis=1, how="all").head(MOST_CELLS)
    columns = []
    for name in map(str, frame):
        words = name in WORDS or not pd.api.types.is_numeric_dtype(frame[name])
        found = tuple(dict.fromkeys(frame[name].dropna().astype(str)))
        choices = found if name in {"entry", "request", "seed", "outcome"} and 1 < len(found) <= 60 else ()
        columns.append(Column(TITLES.get(name, name), comparison.meaning.get(name, ""), words, choices))
    rows = [["" if pd.isna(v) else f"{v:.4g}" if isinstance(v, float) else str(v) for v in r] for r in frame.to_numpy()]
    total = len(comparison.frame)
    left_out = "" if len(rows) == total else f"; the first {count(len(rows))} of {count(total)}, results.csv has all"
    caption = f"One row per cell: a method, a request and a seed{left_out}"
    return Table("cells", caption, tuple(columns), _values(columns, rows))


def _values(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[tuple[Value, ...], ...]:
    return tuple(
        tuple(Value(text, None if c.words else _number(text)) for c, text in zip(columns, row, strict=True))
        for row in rows
    )


def _numbers(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(not row[column] or _number(row[column]) is not None for row in rows)


def _number(text: str) -> float | None:
    """Return the number that a cell starts with, behind the sign of a bound."""
    try:
        return float(text.lstrip("≥≤≷ ").split()[0])
    except (ValueError, IndexError):
        return None


def _facts(comparison: Comparison) -> dict[str, str]:
    """Return what was compared, in words."""
    plan, recipe, frame = comparison.plan, comparison.plan.recipe, comparison.frame
    failed = int((frame.refused != "").sum())
    arguments = ", ".join(f"{k}: {v}" for k, v in plan.model.arguments.items())
    requests = "; ".join(plan.asked()[:10])
    more = f"; and {len(plan.requests) - 10} more" if len(plan.requests) > 10 else ""
    found = {
        "Data": f"{plan.data.source}, {plan.data.validation:g} of the training data held out",
        "Model": f"{plan.model.build} ({arguments})" if arguments else plan.model.build,
        "Recipe": f"{recipe.optimiser}, rate {recipe.lr:g}, {recipe.epochs:g} epochs, batch {recipe.batch_size}",
        "Asked to forget": requests + more,
        "Seeds": ", ".join(map(str, plan.seeds)),
        "Cells": f"{count(len(frame))}, of which {count(failed)} without a result" if failed else count(len(frame)),
        "Machine": comparison.machine,
    }
    return {k: v for k, v in found.items() if v}


def _failed(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return method, cells and reason of what a method refused or what failed."""
    refused = comparison.frame[comparison.frame.refused != ""]
    return [
        (str(entry), ", ".join(f"{r.request} seed {r.seed}" for r in group.itertuples()), str(why))
        for (entry, why), group in refused.groupby(["entry", "refused"], sort=False)
    ]
