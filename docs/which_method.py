"""Write the tables of docs/which_method.md from what methods declare and from committed audits; `--check` compares."""

from __future__ import annotations

from typing import Any

import pandas as pd
from generated import ROOT, between, settle

from efface.methods.catalogue import describe

PAGE = ROOT / "docs" / "which_method.md"
BEGIN, END = "<!-- which: docs/which_method.py writes this -->", "<!-- /which -->"
AUDITS = {"digits, MLP": "digits_mlp_who_passes", "digits, BatchNorm CNN": "digits_cnn_who_passes"}
READS = {
    (): "nothing of it",
    ("forget",): "only what is to go",
    ("retain",): "only what stays",
    ("forget", "retain"): "both",
}
EXPENSE = ["instant", "gradients", "forget epochs", "retain epochs", "training"]


def choices(prepared: bool) -> str:
    """Return which methods forget classes and records, by what data they read, cheap ones first."""
    title = "what was prepared at training" if prepared else "training data that you can still read"
    lines = [f"| {title} | a class | single records |", "|---|---|---|"]
    found = [m for m in describe() if bool(m["prepared"]) == prepared]
    found.sort(key=lambda m: (EXPENSE.index(m["expense"]), m["name"]))
    keys = sorted({m["prepared"] for m in found}) if prepared else list(READS.values())
    for key in keys:
        mine = [m for m in found if (m["prepared"] if prepared else _reads(m["reads"])) == key]
        lines.append(f"| {key} | {_names(mine, 'classes')} | {_names(mine, 'items')} |")
    return "\n".join(lines)


def _names(methods: list[dict[str, Any]], target: str) -> str:
    return ", ".join(f"`{m['name']}`" for m in methods if target in m["targets"]) or "-"


def _reads(parts: list[str]) -> str:
    return READS[tuple(p for p in parts if p != "validation")]


def measured() -> str:
    """Return how many audits each row of the committed runs passed, and its time, best first."""
    wide: dict[str, dict[str, str]] = {}
    passed: dict[str, list[int]] = {}
    for title, name in AUDITS.items():
        table = pd.read_csv(ROOT / "experiments" / "results" / name / "results.csv")
        table["both"] = table.forgotten.astype(bool) & table.useful.astype(bool)
        for row, group in table.groupby("row", sort=False):
            count = int(group.both.sum())
            wide.setdefault(str(row), {})[title] = f"{count} of {len(group)} | {group.share.median():.0%}"
            passed.setdefault(str(row), []).append(-count)
    lines = ["| row | " + " | ".join(f"{title}: passed | time" for title in AUDITS) + " |"]
    lines.append("|---" * (1 + 2 * len(AUDITS)) + "|")
    best_first = sorted(wide, key=lambda row: passed[row])
    cells = [[row, *(wide[row].get(title, "- | -") for title in AUDITS)] for row in best_first]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)])


def written() -> str:
    """Return what stands between the markers."""
    return f"""
{choices(prepared=False)}

Cheap ones stand first: instant, passes over gradients, epochs over what goes, epochs over what stays, a training. Some
of them read held-out training records besides, to stop or to choose; [Methods](methods.md) says so of each.

If you can still decide how the model is trained:

{choices(prepared=True)}

What passed: audits of level (c) of one class each, by which the model could not be told from retrained ones and was as
useful; and the median of processor time, as a share of retraining's. Retraining for a share of the epochs is what a
method has to beat. Rows that are not here were not audited in these runs.

{measured()}

Written from [the runs' results](../experiments/README.md); other networks and what failed: [What passes](research.md).
A method that passes on one network may fail on the next: audit yours.
"""


def main() -> None:
    """Write the page, or with --check exit with status 1 if it is not current."""
    settle({PAGE: between(PAGE.read_text(encoding="utf-8"), BEGIN, END, written())})


if __name__ == "__main__":
    main()
