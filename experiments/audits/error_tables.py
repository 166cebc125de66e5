"""Tables of error rates: false alarms and misses with Clopper and Pearson's intervals, from the audits written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from efface.auditing.checks import ROUNDING
from efface.auditing.questions import QUESTIONS
from efface.auditing.settings import AuditSettings

__all__ = ["TOLERANCES", "TRUE", "by_tolerances", "differing", "share", "table", "write_tables", "wrong"]

TOLERANCES = {
    q.key: "ain_factor" if q.measure == "ain" else "exposure_factor" if q.measure == "exposure" else q.tolerance
    for q in QUESTIONS
}
"""The setting that each question is judged by at level (b)."""

AS_TRAINED = "as the original"

ENOUGH = 20
"""Audits from which the table of misses has intervals; of fewer they would hold nearly anything."""

TRUE = "retrained"
"""Row of models that never saw the records."""


def share(hits: int, of: int) -> str:
    """Write a share with the exact 95 % interval."""
    if not of:
        return "-"
    ends = binomtest(hits, of).proportion_ci(method="exact")
    return f"{hits} of {of} ({100 * ends.low:.1f} to {100 * ends.high:.1f} %)"


def differing(row: Mapping[str, Any], settings: AuditSettings) -> list[str]:
    """Return the questions that find a difference at level (b) under some tolerances, from what each would need."""
    found = []
    for key, setting in TOLERANCES.items():
        if pd.notna(row[key]) and row[key] > getattr(settings, setting) + ROUNDING:
            found.append(key)
    return found


def by_tolerances(frame: pd.DataFrame, settings: AuditSettings) -> pd.DataFrame:
    """Return audits at level (b) as they end under some tolerances."""
    found = frame.copy()
    keys = [" ".join(differing(row, settings)) for row in frame.to_dict("records")]
    unfit = frame["unfit"] if "unfit" in frame else [False] * len(frame)
    found["differs"] = ["" if refused else k for k, refused in zip(keys, unfit, strict=True)]
    return found


def columns(frame: pd.DataFrame, plan: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the audits by level, in the tables' order; level (b) under both tolerances."""
    found = {}
    for n in sorted(frame["N"].unique()):
        part = frame[frame["N"] == n]
        if n == 1:
            found["b, 1, before"] = by_tolerances(part, AuditSettings(**plan["before"]))
            found["b, 1"] = by_tolerances(part, AuditSettings())
        else:
            # More use than a retrained model's is no harm, and no alarm.
            differs = part["differs"].fillna("").str.replace(r"\S+:better", "", regex=True).str.strip()
            found[f"c, {n}"] = part.assign(differs=differs)
    return found


def asking(part: pd.DataFrame) -> str:
    """Write which questions found a difference, and in how many audits."""
    keys = [d.split(":")[0] for text in part["differs"].fillna("") for d in text.split()]
    return ", ".join(f"{k} {n}" for k, n in pd.Series(keys, dtype=str).value_counts().items()) or "-"


def wrong(part: pd.DataFrame) -> pd.Series:
    """Return which audits end with a difference."""
    return part["differs"].fillna("") != ""


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def false_alarms(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return the table of truly retrained models, by level."""
    rows = []
    honest = frame[(frame["row"] == TRUE) & (frame["references"] == AS_TRAINED)]
    for level, part in columns(honest, plan).items():
        hit = part[wrong(part)]
        kinds = [part[part["kind"] == kind] for kind in ("class", "items")]
        sets = f"{hit['request'].nunique()} of {part['request'].nunique()}"
        counts = [share(int(wrong(p).sum()), len(p)) for p in (part, *kinds)]
        rows.append((level, *counts, sets, asking(part)))
    titles = "level, N", "false alarms", "of classes", "of items", "sets with one", "questions that raised them"
    return table(titles, rows)


def misses(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return the table of models that kept something: how many of them pass."""
    kept = frame[(frame["row"] != TRUE) & (frame["references"] == AS_TRAINED)]
    rows = []
    for kind in ("class", "items"):
        levels = columns(kept[kept["kind"] == kind], plan)
        for name in dict.fromkeys(kept[kept["kind"] == kind]["row"]):
            cells = []
            for part in levels.values():
                own = part[part["row"] == name]
                missed = int((~wrong(own)).sum())
                cells.append(share(missed, len(own)) if len(own) >= ENOUGH else f"{missed} of {len(own)}")
            rows.append((kind, name, *cells))
    return table(("request", "model", *columns(kept, plan)), rows)


def other_references(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return the table of truly retrained models beside references that were trained in another way."""
    rows = []
    for how in dict.fromkeys(frame["references"]):
        part = frame[(frame["references"] == how) & (frame["row"] == TRUE)]
        if how == AS_TRAINED:  # of the same requests
            others = frame[frame["references"] != AS_TRAINED]
            part = part[part["request"].isin(others["request"]) & part["N"].isin(others["N"])]
        for level, own in columns(part, plan).items():
            refused = int(own["unfit"].sum())
            rows.append((how, level, share(int(wrong(own).sum()), len(own)), refused, asking(own)))
    return table(("references trained", "level, N", "false alarms", "refused as another recipe", "questions"), rows)


def write_tables(frame: pd.DataFrame, out: Path, plan: Mapping[str, Any]) -> None:
    """Write table.md.

    Args:
        frame: All audits.
        out: Folder of the results.
        plan: What was run.
    """
    planned = len(plan["originals"]) * len(plan["classes"]) + len(plan["item_originals"])
    fresh = frame[~frame["request"].str.startswith("pool")]
    done, pool = fresh["request"].nunique(), plan["pool"]
    pooled = frame["request"].nunique() - done
    lines = [
        f"{plan['title']}; {done} of the plan's {planned} requests so far, each with retrained models of its own, "
        f"{plan['retrained']} accused of each.",
        f"By {pool['references']}: {pooled} of {pool['requests']} requests, {pool['retrained']} accused of each.",
        "In brackets: 95 % intervals, as if audits were independent.",
        "Level (b), before: by the tolerances before they were tuned. Written by experiments/audits/error_rates.py.",
        "",
        "False alarms: truly retrained models that end with a difference.",
        "",
        *false_alarms(frame, plan),
        "",
        "Misses: models that kept something, of which no question finds a difference.",
        "",
        *misses(frame, plan),
        "",
        "False alarms where the references were trained in another way than the original and the accused models.",
        "",
        *other_references(frame, plan),
    ]
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
