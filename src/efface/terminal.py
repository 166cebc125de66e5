"""Printing tables that must not be cut: as wide as they are, also where stdout is no terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

__all__ = ["print_table"]


def print_table(table: Table) -> None:
    """Print a table on stdout at its natural width if that exceeds the terminal's."""
    console = Console()
    natural = console.measure(table, options=console.options.update(max_width=1000)).maximum
    if natural > console.width:
        console = Console(width=natural)
    console.print(table)
