"""An audit in a terminal: the rows that matter and the verdict; tables that must not be cut."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from efface.auditing.catalogue import Measure
from efface.auditing.result import Audit
from efface.auditing.scores import written
from efface.auditing.scores.score import Score
from efface.report.contents import sequence

__all__ = ["print_table", "rows_table", "show"]


def print_table(table: Table) -> None:
    """Print a table on stdout, its cells broken between words to fit the terminal; no word is ever cut."""
    console = Console()
    least = console.measure(table, options=console.options.update(max_width=1000)).minimum
    if least > console.width:
        console = Console(width=least)
    console.print(table)


COLUMNS = {
    "test_accuracy": "kept classes, test",
    "test_forget_accuracy": "forgotten, test",
    "forget_accuracy": "forget data",
    "probe_recall": "probe recall",
    "relearn_steps": "relearn steps",
    "seconds": "time",
}
"""Scores that fit a terminal; the report has all."""


def rows_table(audit: Audit) -> Table:
    """Return the audit's rows as a rich table: accuracies and probe recall in per cent."""
    keys = [k for k in COLUMNS if k in audit.measures and any(r.scores[k].measured for r in audit.rows)]
    table = Table(header_style="bold", title=escape(f"forget {audit.request_text} ({audit.data})"))
    table.add_column("model", min_width=max(len(row.name) for row in audit.rows))
    for key in keys:
        table.add_column(COLUMNS[key], justify="right")
    for row in audit.rows:
        style = "bold" if row.name == audit.candidate else None
        table.add_row(escape(row.name), *(_said(row.scores[k], audit.measures[k]) for k in keys), style=style)
    return table


def show(audit: Audit) -> None:
    """Print the table of rows and the verdict on stdout."""
    print_table(rows_table(audit))
    console = Console()
    console.print(audit.verdict.headline, style="bold", markup=False)
    for sentence in audit.verdict.sentences:
        console.print(f"- {sentence}", markup=False, highlight=False)
    if audit.as_long is not None:
        console.print(f"- {audit.as_long.text}", markup=False, highlight=False)
    if audit.sequence:
        print_table(sequence_table(audit))


def sequence_table(audit: Audit) -> Table:
    """Return every request so far as a rich table; which questions differ is in the report."""
    head, rows = sequence(audit)
    table = Table(header_style="bold", title="every request so far; of its records, right in per cent")
    for name in head[:-1]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row[:-1]))
    return table


def _said(score: Score, measure: Measure) -> str:
    return written.value(score, measure) if score.measured else "-"
