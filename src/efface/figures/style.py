"""The look that all figures share, and the ways out: SVG for a page, PNG or SVG files."""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from efface.errors import InputError
from efface.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PALE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "WIDTH",
    "canvas",
    "label",
    "look",
    "name_ticks",
    "percent_ticks",
    "save",
    "svg",
]

# Okabe and Ito's palette: told apart by readers with any colour blindness, and in grey print by their lightness.
BLACK, BLUE, GREEN, ORANGE = "#16191d", "#0072b2", "#009e73", "#e69f00"

PURPLE, SKY, VERMILLION = "#cc79a7", "#56b4e9", "#d55e00"

INK, GREY, PALE = "#4a5058", "#a3a9b2", "#e4e7eb"

WIDTH = 860
"""Width of a figure in pixels: a page's column on the screen; on A4 its 13 px text is still above 7 pt."""

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 13,
    "axes.linewidth": 1,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.dpi": 72,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the layout is the same on every machine
    "font.size": 13,
    "grid.color": PALE,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, copied
    "svg.hashsalt": "efface",
    "text.color": BLACK,
    "text.parse_math": False,  # a class named "$x$" is a name, not a formula
    "xtick.color": INK,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": INK,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


@contextmanager
def look() -> Iterator[None]:
    """Draw with Efface's look inside the block, whatever matplotlib's settings are outside."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        # The reader's browser has letters that matplotlib's own font lacks, e.g. in names of classes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def canvas(
    height: float, columns: int = 1, rows: int = 1, *, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its axes, `rows` x `columns`; sizes in pixels at 72 dots per inch.

    Called inside `look`. No global state of matplotlib is used, so nothing has to be closed.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=6 / 72, h_pad=6 / 72)
    figure = Figure(figsize=(width / 72, height / 72), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def label(text: object, longest: int = 28) -> str:
    """Return text fit for a figure: no control characters (SVG allows none), and cut where it would take the room."""
    clean = "".join(c if unicodedata.category(c)[0] != "C" else "\ufffd" for c in str(text))
    return clean if len(clean) <= longest else clean[: longest - 1].rstrip() + "…"


def percent_ticks(axes: Axes, which: Literal["x", "y"], *, whole: bool = True) -> None:
    """Put ticks at quarters of [0, 1] on one axis, in percent; where a part of it is drawn, at round numbers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if whole:
        axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_major_formatter(lambda v, _: f"{100 * v:.3g}\u00a0%")


def name_ticks(
    axes: Axes,
    which: Literal["x", "y"],
    names: Sequence[str],
    marked: Sequence[int] = (),
    *,
    shift: float = 0.0,
    colour: str = VERMILLION,
) -> None:
    """Put names on one axis at 0, 1, 2, ... plus `shift`; marked ones differ by weight as well as by colour."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(np.arange(len(names)) + shift, [label(n, 20 if which == "y" else 14) for n in names])
    steep = which == "x" and max((len(n) for n in names), default=0) * len(names) > 30
    for i, text in enumerate(axis.get_ticklabels()):
        if steep:
            text.set(rotation=90)
        if i in marked:
            text.set(color=colour, fontweight="bold")


def svg(figure: Figure, key: str, title: str, description: str) -> str:
    """Return a figure as an SVG element to stand inside a page, the same text for the same drawing.

    Args:
        figure: From one of the functions in `efface.figures`.
        key: Unique on the page; put before every id, because ids of several figures on one page would collide.
        title: Name of the figure, for screen readers.
        description: What it shows, in a sentence or two, for screen readers.

    Raises:
        InputError: If the key is no identifier.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
        raise InputError(f"{key!r} cannot name a figure; use small letters, digits and hyphens")
    buffer = io.StringIO()
    with look():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL)
    # Only inside tags: a class may be named 'id="x"'.
    text = re.sub(r"<[^>]+>", lambda tag: _placed(tag.group(), key), text)
    box = re.search(r'viewBox="[^"]*"', text)
    body = text[text.index(">") + 1 :]
    names = f"{key}-title", f"{key}-description"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = (
        f'<svg class="figure" role="img" aria-labelledby="{" ".join(names)}" {spaces} {box.group() if box else ""}>\n'
        f'<title id="{names[0]}">{escape(title)}</title>\n<desc id="{names[1]}">{escape(description)}</desc>'
    )
    return head + body


def _placed(tag: str, key: str) -> str:
    """One tag with its ids and references under the key, and without a font family: the page's own is used."""
    tag = re.sub(r'\bid="', f'id="{key}-', tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", tag)
    # Before 3.10, matplotlib wrote the shorthand "font: 700 13px 'DejaVu Sans'".
    tag = re.sub(r"\bfont: (?:(\d+|bold) )?([\d.]+px) [^;\"]*", _longhand, tag)
    return re.sub(r"font-family: [^;\"]*;? ?", "", tag)


def _longhand(font: re.Match[str]) -> str:
    return (f"font-weight: {font[1]}; " if font[1] else "") + f"font-size: {font[2]}"


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a .png (twice the pixels) or .svg file, atomically; the same bytes for the same drawing.

    Raises:
        InputError: If the file name ends in something else.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in {"png", "svg"}:
        raise InputError(f"cannot save a figure as {path.name}; end its name in .png or .svg")
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with look():
        figure.savefig(buffer, format=kind, dpi=144 if kind == "png" else 72, metadata=metadata)
    return write_file(path, buffer.getvalue())
