"""Level (c) audits of several methods on several classes and originals; models are kept and can be audited again.

Run: python experiments/audits/audits.py PLAN.yaml DATA WORK
Writes ../results/NAME/results.csv (one row per seed, class and row of the plan) and table.md in experiments/.
"""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pandas as pd
from planned import finished, original_of, planned, references_of

import efface
from efface.artifact.artifact import Artifact
from efface.errors import InputError
from efface.methods.applying import rebuilt
from efface.references.as_long import shortened
from efface.request import Request

USE = {"test", "retain"}
SCORES = ("test_accuracy", "retain_accuracy", "forget_accuracy", "probe_recall_few", "separation", "relearn_steps")


def name_of(label: str) -> str:
    """Return a folder name."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def concluded(found: efface.auditing.result.Audit) -> dict:
    """Return one audit as a row: both verdicts, what differs, and some scores."""
    checks = {c.key: c for c in found.verdict.checks}
    differs = [k for k, c in checks.items() if c.outcome == "differs"]
    (candidate,) = (row for row in found.rows if row.name == found.candidate)
    scores = {k: candidate.scores[k].value for k in SCORES if k in candidate.scores}
    return {
        "level": found.level,
        "forgotten": not set(differs) - USE,
        "useful": not set(differs) & USE,
        "differs": " ".join(f"{k}:{checks[k].direction}" for k in differs),
        "not assessed": " ".join(k for k, c in checks.items() if c.outcome == "not assessed"),
    } | scores


def main(plan_file: str, root: str, folder: str) -> None:
    """Run the plan, skipping what is in results.csv already."""
    plan, data, work, out = planned(plan_file, root, folder)
    rows = finished(out)
    for seed, c in itertools.product(plan["seeds"], plan["classes"]):
        original = original_of(plan | {"seed": seed}, data, work)
        request, references = Request.of(classes=[c]), references_of(original, data, seed, c, plan["references"], work)
        for row in plan["rows"]:
            if any((r["seed"], r["class"], r["row"]) == (seed, c, row["label"]) for r in rows):
                continue
            made = work / plan["name"] / f"seed-{seed}-class-{c}" / name_of(row["label"])
            if not made.is_dir():
                start = shortened(original, row.get("epochs"))
                try:
                    artifact = efface.forget(
                        start, data, request, method=row["method"], settings=row.get("settings"), seed=7, device="cpu"
                    )
                except InputError as error:
                    rows.append({"seed": seed, "class": c, "row": row["label"], "refused": str(error)})
                    continue
                artifact.save(made)
            artifact = Artifact.load(made, trust=True, rebuild=rebuilt)
            found = efface.audit(artifact, data, request, original=original, retrained=references, device="cpu")
            seconds = artifact.record.seconds["forget"]
            share = seconds / next(iter(references)).record.seconds["forget"]
            cell = {"seed": seed, "class": c, "row": row["label"], "seconds": seconds, "share": share, "refused": ""}
            rows.append(cell | concluded(found))
            pd.DataFrame(rows).to_csv(out / "results.csv", index=False, float_format="%.4f")
            print(rows[-1], f"audit {found.seconds}", flush=True)
            write_table(pd.DataFrame(rows), out / "table.md", plan)


def write_table(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write shares of audits passed, one line per row of the plan, and what differed where."""
    seeds, classes = (", ".join(map(str, dict.fromkeys(frame[k]))) for k in ("seed", "class"))
    titles = "row", "audits", "forgotten", "useful", "both", "kept test accuracy", "time, median", "what differs"
    lines = [
        f"Level (c) audits, {plan['references']} retrained models a class; seeds {seeds}; classes {classes}.",
        "Passed: forgotten (every question but use is alike), useful (accuracy on kept records), both. Time: share of",
        "the first reference's, on one thread of a shared machine. In brackets: in how many audits a question",
        "differs, and its side. Written by experiments/audits/audits.py.",
        "",
        "| " + " | ".join(titles) + " |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label in dict.fromkeys(frame["row"]):
        part = frame[(frame["row"] == label) & (frame["refused"].fillna("") == "")]
        if part.empty:
            continue
        both = part["forgotten"].astype(bool) & part["useful"].astype(bool)
        differs = pd.Series([d for text in part["differs"].fillna("") for d in str(text).split()], dtype=str)
        counted = ", ".join(f"{k} ({n})" for k, n in differs.value_counts().items())
        accuracy = 100 * part["test_accuracy"].astype(float)
        lines.append(
            f"| {label} | {len(part)} | {part['forgotten'].astype(bool).sum()} | {part['useful'].astype(bool).sum()} | "
            f"{both.sum()} | {accuracy.mean():.2f} ({accuracy.min():.2f} to {accuracy.max():.2f}) | "
            f"{100 * part['share'].astype(float).median():.1f} % | {counted or '-'} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
