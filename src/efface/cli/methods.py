"""The subcommand `methods`."""

from __future__ import annotations

import json

import typer

from efface.cli.options import JsonOption, guarded


@guarded
def methods(as_json: JsonOption = False) -> None:
    """List the unlearning methods: what each forgets, reads, needs and costs."""
    from efface.methods.catalogue import describe

    rows = describe()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from efface.report.console import print_table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("method", "forgets", "reads", "needs at training", "time", "source"):
        table.add_column(heading)
    table.columns[0].min_width = max(len(row["name"]) for row in rows)
    for row in rows:
        table.add_row(
            row["name"],
            ", ".join(row["targets"]),
            ", ".join(row["reads"]) or "nothing",
            row["prepared"] or "-",
            row["cost"],
            row["source"],
        )
    print_table(table)
