"""Copy tables of committed results into pages, between markers; `--check` says if they are current.

A marker `<!-- table: PATH -->`, PATH below experiments/results, is followed by that file up to `<!-- /table -->`.
"""

from __future__ import annotations

import re

from generated import ROOT, settle

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
    settle({page: filled(page.read_text(encoding="utf-8")) for page in PAGES})


if __name__ == "__main__":
    main()
