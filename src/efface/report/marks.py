"""Text as Markdown in which nothing from outside is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["listed", "table", "text"]


def text(value: object) -> str:
    """Text in which nothing is markup: one line, HTML and Markdown characters escaped."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~#!$])", r"\\\1", line)
    # A scheme in plain text would become a link.
    return re.sub(r"(?i)\b(https?|ftp|www)([:.])", r"\1&#8203;\2", line)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], rest: str = "---:") -> str:
    """Return a table; cells are Markdown already.

    Args:
        head: Of the columns.
        rows: Of cells.
        rest: How all columns but the first are aligned.
    """
    lines = [head, ["---"] + [rest] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed(mapping: Mapping[str, str]) -> str:
    """Return names with what they are, as a list."""
    return "\n".join(f"- {text(k)}: {text(v)}" for k, v in mapping.items())
