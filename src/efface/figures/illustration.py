"""A figure with its words, as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from efface.figures.style import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Illustration", "Rows"]

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Illustration:
    """A figure with its words.

    Attributes:
        title: Its name.
        caption: What to look for, in a sentence or two; also its description for screen readers.
        key: Its name within a page, unique there.
        figure: The figure itself.
        head: Header of the table of numbers behind it.
        rows: That table; empty where numbers would not help.
    """

    title: str
    caption: str
    key: str
    figure: Figure
    head: tuple[str, ...] = ()
    rows: Rows = ()

    @classmethod
    def of(
        cls, figure: Figure, key: str, title: str, caption: str, head: tuple[str, ...] = (), rows: Rows = ()
    ) -> Illustration:
        """Put a figure and its words together; `key` is unique on a page."""
        return cls(title, caption, f"fig-{key}", figure, head, rows)

    @property
    def svg(self) -> str:
        """The figure as an SVG element."""
        return svg(self.figure, self.key, self.title, self.caption)
