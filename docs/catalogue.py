"""Write docs/methods.md; `--check` says if it is current.

It is made of the classes' docstrings and of docs/methods/NAME.md, one file per method with its differences
from paper and official code. There a last line `rows: PLAN ...` stands for the method's rows in the results of these
plans, so that measured effects are read from experiments/results and never typed.
"""

from __future__ import annotations

import inspect

import pandas as pd
from generated import ROOT, settle

from efface.methods.catalogue import describe, methods

DIFFERENCES = ROOT / "docs" / "methods"
PAGE = ROOT / "docs" / "methods.md"


def table(*columns: str) -> str:
    """Return the methods as a Markdown table, with further columns of `describe` before the source."""
    titles = ["method", "forgets", "reads", "needs at training", "time", *columns, "source"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in describe():
        cells = (
            f"[`{row['name']}`](#{row['name']})",
            ", ".join(row["targets"]),
            ", ".join(row["reads"]) or "nothing",
            row["prepared"] or "-",
            row["cost"],
            *(row[c] for c in columns),
            row["source"],
        )
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines)


def differences(name: str) -> str:
    """Return how a method differs from its paper and official code, with the rows that measure it; empty if unsaid."""
    path = DIFFERENCES / f"{name}.md"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8").rstrip()
    body, _, last = text.rpartition("\n\nrows: ")
    if body:
        text = "\n\n".join([body, *(rows(plan, name) for plan in last.split())])
    return f"**Differences from paper and official code**\n\n{text}\n"


def rows(plan: str, name: str) -> str:
    """Return a method's rows in a plan's results, and the original's: A_R / E_F in % per request, means over seeds."""
    found = pd.read_csv(ROOT / "experiments" / "results" / plan / "results.csv")
    requests = list(dict.fromkeys(found["request"]))
    lines = [
        f"`{plan}` (A_R / E_F, %):",
        "",
        "| row | " + " | ".join(requests) + " |",
        "|---" * (len(requests) + 1) + "|",
    ]
    for entry, own in found[found["method"].isin(["original", name])].groupby("entry", sort=False):
        means = own.groupby("request")[["A_R", "E_F"]].mean()
        lines.append(
            f"| {entry} | "
            + " | ".join("refused" if a != a else f"{a:.1f} / {e:.1f}" for a, e in means.loc[requests].values)
            + " |"
        )
    return "\n".join(lines)


def catalogue() -> str:
    """Return docs/methods.md: the table, then every class's docstring and its differences from the source."""
    parts = [
        "# Methods",
        "",
        "<!-- Written by docs/catalogue.py from the classes in src/efface/methods and from docs/methods/NAME.md. -->",
        "",
        "Every method in a line, then each in its own words, with how it differs from its paper and official code.",
        "To choose one: [Which method](which_method.md).",
        "",
        "N, N_F, N_R are samples (all, to forget, to keep), E epochs, K classes, B a batch. Memory is the peak beside",
        "the given model and the data: P is as many float32 numbers as it has parameters, A one batch's activations;",
        "`benchmarks/method_memory.py` measures it.",
        "",
        "What a method has no hyper-parameter for, it takes from the recipe that the original was trained with: batch",
        "size, weight decay, augmentation, label smoothing, gradient clipping, precision. Official codes often fix",
        "these: two originals that were trained differently are forgotten differently by the same method.",
        "",
        table("memory"),
        "",
    ]
    for name, kind in methods().items():
        parts += [f"## {name}", "", "```text", inspect.getdoc(kind) or "", "```", ""]
        if said := differences(name):
            parts.append(said)
    return "\n".join(parts)


def main() -> None:
    """Write the page, or with --check exit with status 1 if it is not current."""
    settle({PAGE: catalogue()})


if __name__ == "__main__":
    main()
