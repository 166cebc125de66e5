"""What the scripts of this folder share: a part of a page between two markers, and files that are to be current."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def between(text: str, begin: str, end: str, content: str) -> str:
    """Return a page with `content` on its lines between two markers.

    Raises:
        ValueError: A marker is not there.
    """
    start = text.index(begin) + len(begin)
    return f"{text[:start]}\n{content}\n{text[text.index(end, start) :]}"


def settle(wanted: Mapping[Path, str]) -> None:
    """Write the files that are not current; with --check on the command line, exit with their names instead."""
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    names = [path.relative_to(ROOT).as_posix() for path in stale]
    if stale and "--check" in sys.argv[1:]:
        sys.exit(f"not current: {', '.join(names)}; run `make docs`")
    for path, name in zip(stale, names, strict=True):
        path.write_text(wanted[path], encoding="utf-8")
        print(f"written: {name}")
