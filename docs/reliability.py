"""Copy what `make test-faults` tried, reliability.json, into the table of docs/reliability.md; `--check` compares."""

from __future__ import annotations

import json
from typing import Any

from generated import ROOT, between, settle

PAGE, TRIED = ROOT / "docs" / "reliability.md", ROOT / "docs" / "reliability.json"
FIRST, WITH, ENDED = "a worker first", "with its workers", "ended before"
"""How outcomes of killed runs with workers begin, and that of a kill which came too late; see tests/test_faults.py."""

ALONE = "only a worker killed"
"""The fault that a run survives."""

VERBS = (
    "train", "train --overwrite", "forget", "forget --overwrite", "audit", "verify", "train --references, one by one",
    "train --references, processes", "train --references --overwrite", "compare, 2 workers",
)  # fmt: skip
FAULTS = ("killed", "terminated (SIGTERM)", "raced by another", "full disk", "limit on files")
PROMISED = {
    *((fault, verb) for fault in FAULTS for verb in VERBS),
    *(("killed", f"{verb}, slices kept") for verb in ("train --method sisa, processes", "forget -m sisa, processes")),
    *(("killed", verb) for verb in ("train --references, Ray", "compare, Ray", "forget, by the ladder")),
}
"""Faults and runs without which the table is none."""

BEGIN, END = "<!-- tried: docs/reliability.py writes this -->", "<!-- /tried -->"


def table() -> str:
    """Return one line per kind of fault and verb, and how often each was tried in all."""
    rows = json.loads(TRIED.read_text(encoding="utf-8"))
    if gaps := PROMISED - {(row["fault"], row["verb"]) for row in rows}:
        raise SystemExit(f"{TRIED.name} has no row for {sorted(gaps)}; run make test-faults")
    lines = ["| fault | run | tried | what came of it |", "|---|---|---|---|"]
    totals: dict[str, int] = {}
    for row in rows:
        tried = sum(row["outcomes"].values())
        hit = tried - row["outcomes"].get(ENDED, 0)
        totals[row["fault"]] = totals.get(row["fault"], 0) + hit
        outcomes = "; ".join(f"{outcome}: {count}" for outcome, count in row["outcomes"].items())
        lines.append(f"| {row['fault']} | `{row['verb']}` | {tried} | {outcomes} |")
    total = "In all, without runs that had ended before: " + ", ".join(f"{f} {n}" for f, n in totals.items()) + "."
    return "\n".join([total, "", of_workers(rows), "", *lines])


def of_workers(rows: list[dict[str, Any]]) -> str:
    """Return a table of the runs with workers: how often each was killed, and how often after one of its workers."""
    alone = {row["verb"]: sum(row["outcomes"].values()) for row in rows if row["fault"] == ALONE}
    lines, totals, everything = [], [0, 0, 0], 0
    for row in (row for row in rows if row["fault"] == "killed"):
        first, other = (sum(n for o, n in row["outcomes"].items() if o.startswith(how)) for how in (FIRST, WITH))
        everything += sum(row["outcomes"].values()) - row["outcomes"].get(ENDED, 0)
        if not first + other:
            continue
        own = [first + other, first, alone.get(row["verb"], 0)]
        lines.append(f"| `{row['verb']}` | {' | '.join(map(str, own))} |")
        totals = [t + n for t, n in zip(totals, own, strict=True)]
    return "\n".join(
        [
            f"Runs with workers, and how many of their kills came after that of a worker ({totals[1]} of "
            f'{totals[0]}, or {100 * totals[1] / totals[0]:.0f} %; "{FIRST}" below, the others "{WITH}"). The other '
            f"{everything - totals[0]} kills hit runs of one process, which has no worker to kill.",
            "",
            "| run with workers | killed | of these after a worker | only a worker killed |",
            "|---|---|---|---|",
            *lines,
            f"| together | {' | '.join(map(str, totals))} |",
        ]
    )


def main() -> None:
    """Write the page, or with --check exit with status 1 if it is not current."""
    settle({PAGE: between(PAGE.read_text(encoding="utf-8"), BEGIN, END, table())})


if __name__ == "__main__":
    main()
