"""Copy tables of committed results into docs/research.md, between markers; `--check` says if it is current.

A marker `<!-- table: PATH -->`, PATH below experiments/results, is followed by that file up to `<!-- /table -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "research.md"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return the page with every block's table as the results have it."""

    def table(match: re.Match[str]) -> str:
        lines = (ROOT / "experiments" / "results" / match[2]).read_text(encoding="utf-8")
        return f"{match[1]}\n{lines.strip()}\n\n{match[3]}"

    return BLOCK.sub(table, text)


def main() -> None:
    """Write the page, or with --check exit with status 1 if it is not current."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = filled(text)
    if text == wanted:
        return
    if "--check" in sys.argv:
        sys.exit("not current: research.md; run `make docs`")
    PAGE.write_text(wanted, encoding="utf-8")
    print("written: docs/research.md")


if __name__ == "__main__":
    main()
