"""Draw the rooms, their floors and their imports into docs/architecture.svg and the page's table; `--check` compares.

Rooms are what stands directly below `src/efface`; floors are the layers that import-linter holds (pyproject.toml);
arrows are imports between rooms, read by grimp without running anything.
"""

from __future__ import annotations

import ast
import tomllib
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import grimp
from generated import ROOT, between, settle

SOURCE = ROOT / "src" / "efface"
PAGE, PICTURE = ROOT / "docs" / "architecture.md", ROOT / "docs" / "architecture.svg"
BEGIN, END = "<!-- rooms: docs/architecture.py writes this -->", "<!-- /rooms -->"
WIDTH, ROW, BOX, HEIGHT = 960, 76, 118, 40


def floors() -> list[list[str]]:
    """Return the rooms of each floor, the top floor first, as import-linter's contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def arrows() -> dict[tuple[str, str], int]:
    """Return how many imports lead from each room to each other one."""
    graph = grimp.build_graph("efface", cache_dir=None)
    found: dict[tuple[str, str], int] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = tuple(name.split(".")[1] for name in (module, imported) if "." in name)
            if len(pair) == 2 and pair[0] != pair[1]:
                found[pair] = found.get(pair, 0) + 1
    return found


def files(room: str) -> list[Path]:
    """Return a room's source files."""
    folder = SOURCE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [SOURCE / f"{room}.py"]


def says(room: str) -> str:
    """Return the first sentence of what a room says of itself."""
    first = SOURCE / room / "__init__.py"
    text = ast.get_docstring(ast.parse((first if first.is_file() else files(room)[0]).read_text(encoding="utf-8")))
    return (text or "").split("\n\n")[0].replace("\n", " ")


def table() -> str:
    """Return the rooms as a Markdown table, one floor after another."""
    lines = ["| floor | room | files | what it is |", "|---|---|---|---|"]
    for number, rooms in zip(range(len(floors()), 0, -1), floors(), strict=True):
        lines += [f"| {number} | `{room}` | {len(files(room))} | {says(room)} |" for room in rooms]
    return "\n".join(lines)


def picture() -> str:
    """Return the rooms on their floors with an arrow wherever one imports another, as an SVG."""
    levels = floors()
    place = {}
    for row, rooms in enumerate(levels):
        for column, room in enumerate(rooms):
            place[room] = (WIDTH * (column + 1) / (len(rooms) + 1), 36 + ROW * row)
    height = ROW * len(levels) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="13" role="img" aria-label="The rooms of Efface on their floors; every arrow leads down">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for above, _ in pairwise(range(len(levels) + 1)):
        parts.append(f'<line x1="0" x2="{WIDTH}" y1="{ROW * above + 74}" y2="{ROW * above + 74}" stroke="#eee"/>')
    for (start, end), count in sorted(arrows().items()):
        (x, y), (to_x, to_y) = place[start], place[end]
        bend = (to_x + x) / 2 + (36 if x == to_x and to_y - y > ROW else 0) * (1 + (to_y - y) / ROW / 2)
        curve = f"M{x:.0f},{y + HEIGHT / 2:.0f} Q{bend:.0f},{(y + to_y) / 2:.0f} {to_x:.0f},{to_y - HEIGHT / 2:.0f}"
        weight = f'stroke-opacity="{min(0.2 + count / 40, 0.8):.2f}" stroke-width="{min(0.8 + count / 15, 3):.1f}"'
        says_what = f"<title>{start} imports {end}: {count}</title>"
        parts.append(f'<path d="{curve}" fill="none" stroke="#0072b2" {weight}>{says_what}</path>')
    for room, (x, y) in place.items():
        parts += [
            f'<rect x="{x - BOX / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{BOX}" height="{HEIGHT}" rx="5" '
            f'fill="#fff" stroke="#333"><title>{escape(says(room))}</title></rect>',
            f'<text x="{x:.0f}" y="{y - 2:.0f}" text-anchor="middle" font-weight="bold">{room}</text>',
            f'<text x="{x:.0f}" y="{y + 14:.0f}" text-anchor="middle" font-size="11" fill="#555">'
            f"{len(files(room))} file{'s' if len(files(room)) > 1 else ''}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write picture and table, or with --check exit with status 1 if one of them is not current."""
    page = between(PAGE.read_text(encoding="utf-8"), BEGIN, END, table())
    settle({PICTURE: picture(), PAGE: page})


if __name__ == "__main__":
    main()
