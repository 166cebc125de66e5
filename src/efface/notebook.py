"""What a notebook shows of an object: a title, facts and a small table, escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["card"]


def card(title: str, facts: Mapping[str, str] | None = None, table: Sequence[Sequence[str]] = ()) -> str:
    """Return HTML that stands in any page; every text is shown as it is, tags included.

    Args:
        title: In bold.
        facts: Names with what they are; empty ones are left out.
        table: Rows of text, the first of them the head.
    """
    parts = [f"<b>{escape(title)}</b>"]
    parts += [f"{escape(name)}: {escape(fact)}" for name, fact in (facts or {}).items() if fact]
    html = "<br>".join(parts)
    if table:
        head, *rows = table
        html += f"<table><thead><tr>{_cells('th', head)}</tr></thead><tbody>"
        html += "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows) + "</tbody></table>"
    return f"<div>{html}</div>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)
