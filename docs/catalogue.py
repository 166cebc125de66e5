"""Write the method list into README.md and docs/methods.md from the classes; `--check` says if both are current."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from efface.methods.catalogue import describe, methods

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- methods: docs/catalogue.py writes this -->", "<!-- /methods -->"


def table(*columns: str) -> str:
    """Return the methods as a Markdown table, with further columns of `describe` before the source."""
    titles = ["method", "forgets", "reads", "needs at training", "time", *columns, "source"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in describe():
        cells = (
            f"`{row['name']}`",
            ", ".join(row["targets"]),
            ", ".join(row["reads"]) or "nothing",
            row["prepared"] or "-",
            row["cost"],
            *(row[c] for c in columns),
            row["source"],
        )
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines)


def catalogue() -> str:
    """Return docs/methods.md: the table, then every class's docstring."""
    parts = [
        "# Methods",
        "",
        "Written by `docs/catalogue.py` from the classes in `src/efface/methods`; do not edit.",
        "",
        "N, N_F, N_R are samples (all, to forget, to keep), E epochs, K classes, B a batch. Memory is the peak beside",
        "the given model and the data: P is as many float32 numbers as it has parameters, A one batch's activations;",
        "`benchmarks/method_memory.py` measures it.",
        "",
        table("memory"),
        "",
    ]
    for name, kind in methods().items():
        parts += [f"## {name}", "", "```text", inspect.getdoc(kind) or "", "```", ""]
    return "\n".join(parts)


def main() -> None:
    """Write both files, or with --check exit with status 1 if one of them is not current."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    wanted = {readme: f"{text[:start]}\n{table()}\n{text[end:]}", ROOT / "docs" / "methods.md": catalogue()}
    stale = [path for path, content in wanted.items() if not path.is_file() or path.read_text("utf-8") != content]
    if "--check" in sys.argv:
        if stale:
            sys.exit(f"not current: {', '.join(p.name for p in stale)}; run `make docs`")
        return
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
