"""Copy tables of committed results into pages, between markers; `--check` says if they are current.

A marker `<!-- table: PATH -->`, PATH below experiments/results, is followed by that file up to `<!-- /table -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(ROOT / name for name in ("docs/research.md", "docs/metrics.md", "experiments/README.md", "README.md"))
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return the page with every block's table as the results have it."""

    def table(match: re.Match[str]) -> str:
        lines = (ROOT / "experiments" / "results" / match[2]).read_text(encoding="utf-8")
        return f"{match[1]}\n{lines.strip()}\n\n{match[3]}"

    return BLOCK.sub(table, text)


def main() -> None:
    """Write the pages, or with --check exit with status 1 if one is not current."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        wanted = filled(text)
        if text == wanted:
            continue
        if "--check" in sys.argv:
            sys.exit(f"not current: {page.relative_to(ROOT)}; run `make docs`")
        page.write_text(wanted, encoding="utf-8")
        print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
