"""Copy what `make test-faults` tried, reliability.json, into the table of docs/reliability.md; `--check` compares."""

from __future__ import annotations

import json
from typing import Any

from generated import ROOT, between, settle

PAGE, TRIED = ROOT / "docs" / "reliability.md", ROOT / "docs" / "reliability.json"
FIRST, WITH, ENDED = "a worker first", "with its workers", "ended before"
"""How outcomes of killed runs with workers begin, and that of a kill which came too late; see tests/test_faults.py."""

BEGIN, END = "<!-- tried: docs/reliability.py writes this -->", "<!-- /tried -->"


def table() -> str:
    """Return one line per kind of fault and verb, and how often each was tried in all."""
    rows = json.loads(TRIED.read_text(encoding="utf-8"))
    lines = ["| fault | run | tried | what came of it |", "|---|---|---|---|"]
    totals: dict[str, int] = {}
    for row in rows:
        tried = sum(row["outcomes"].values())
        totals[row["fault"]] = totals.get(row["fault"], 0) + tried
        outcomes = "; ".join(f"{outcome}: {count}" for outcome, count in row["outcomes"].items())
        lines.append(f"| {row['fault']} | `{row['verb']}` | {tried} | {outcomes} |")
    total = "In all: " + ", ".join(f"{fault} {n}" for fault, n in totals.items()) + "."
    return "\n".join([total, "", of_workers(rows), "", *lines])


def of_workers(rows: list[dict[str, Any]]) -> str:
    """Say which runs have workers, and how many of their kills came after that of a worker."""
    names, kills, after = [], 0, 0
    for row in rows:
        hit = {outcome: n for outcome, n in row["outcomes"].items() if outcome != ENDED}
        if row["fault"] != "killed" or not (
            "processes" in row["verb"] or any(o.startswith((FIRST, WITH)) for o in hit)
        ):
            continue
        names.append(f"`{row['verb']}`")
        kills += sum(hit.values())
        after += sum(n for outcome, n in hit.items() if outcome.startswith(FIRST))
    return (
        f"Runs with workers are {', '.join(names)}: of their {kills} kills, {after} came after one of the workers had "
        f'been killed ("{FIRST}").'
    )


def main() -> None:
    """Write the page, or with --check exit with status 1 if it is not current."""
    settle({PAGE: between(PAGE.read_text(encoding="utf-8"), BEGIN, END, table())})


if __name__ == "__main__":
    main()
