"""Tables of error rates: false alarms and misses with Clopper and Pearson's intervals, from the audits written down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from error_models import asked_by
from scipy.stats import binomtest

from efface.auditing.checks import ROUNDING
from efface.auditing.questions import QUESTIONS
from efface.auditing.settings import AuditSettings

__all__ = ["AS_TRAINED", "TOLERANCES", "TRUE", "by_tolerances", "differing", "share", "table", "write_tables", "wrong"]

TOLERANCES = {
    q.key: "ain_factor" if q.measure == "ain" else "exposure_factor" if q.measure == "exposure" else q.tolerance
    for q in QUESTIONS
}
"""The setting that each question is judged by at level (b)."""

AS_TRAINED = "as the original"
"""What is written of references that were trained by the original's recipe."""

BEFORE = "b, 1, before"
"""Level (b) by the tolerances before they were tuned."""

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
            found[BEFORE] = by_tolerances(part, AuditSettings(**plan["before"]))
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


def passing(part: pd.DataFrame) -> str:
    """Write how many audits find no difference; a dash where there are none."""
    missed = int((~wrong(part)).sum())
    return share(missed, len(part)) if len(part) >= ENOUGH or part.empty else f"{missed} of {len(part)}"


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
    levels, rows = columns(kept, plan), []
    for kind in ("class", "items"):
        for name in dict.fromkeys(kept[kept["kind"] == kind]["row"]):
            own = (part[(part["kind"] == kind) & (part["row"] == name)] for part in levels.values())
            rows.append((kind, name, *(passing(part) for part in own)))
    return table(("request", "model", *levels), rows)


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


def by_setting(frame: pd.DataFrame, plan: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, pd.DataFrame]]]:
    """Yield setting, kind of request and the audits by level, where there are any; level (b) by today's tolerances."""
    for name in dict.fromkeys(frame["setting"]):
        for kind in ("class", "items"):
            part = frame[(frame["setting"] == name) & (frame["kind"] == kind)]
            if len(part):
                yield name, kind, {k: v for k, v in columns(part, plan).items() if k != BEFORE}


def pooled_alarms(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return the table of truly retrained models that one pool a request gives, as are their references."""
    rows = []
    for name, kind, levels in by_setting(frame[frame["row"] == TRUE], plan):
        for level, part in levels.items():
            models = part.groupby(["request", "number"])
            hit = sum(bool(wrong(own).any()) for _, own in models)
            requests = part["request"].nunique()
            alarms = f"{int(wrong(part).sum())} of {len(part)}"
            rows.append((name, kind, requests, level, alarms, share(hit, models.ngroups), asking(part)))
    titles = "network", "request", "requests", "level, N", "false alarms", "models with one", "questions"
    return table(titles, rows)


def pooled_misses(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return the table of models that kept something, beside references drawn from one pool a request."""
    rows, titles = [], [level for level in columns(frame, plan) if level != BEFORE]
    for name, kind, levels in by_setting(frame[frame["row"] != TRUE], plan):
        for row in dict.fromkeys(r for part in levels.values() for r in part["row"]):
            own = (levels.get(level, frame[:0]) for level in titles)
            parts = [part[part["row"] == row] for part in own]
            rows.append((name, kind, row, *(f"{int((~wrong(p)).sum())} of {len(p)}" if len(p) else "-" for p in parts)))
    return table(("network", "request", "model", *titles), rows)


def from_pools(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return the section about settings whose models are drawn from pools."""
    settings = plan["resampled"]
    done = frame.groupby("setting")["request"].nunique()
    sizes = "; ".join(
        f"{name}: {done.get(name, 0)} of {len(list(asked_by(s)))} requests, {s['retrained']} models, {s['draws']} draws"
        for name, s in settings.items()
    )
    return [
        "Other networks: one pool of retrained models a request, of which references and accused are drawn again and",
        f"again ({sizes}).",
        "Draws share models, so that audits have no interval; models with one are counted by themselves.",
        "At one reference each model of the pool is accused once.",
        "",
        *pooled_alarms(frame, plan),
        "",
        "Misses beside references of the same pools.",
        "",
        *pooled_misses(frame, plan),
    ]


def write_tables(frame: pd.DataFrame, pools: pd.DataFrame, out: Path, plan: Mapping[str, Any]) -> None:
    """Write table.md.

    Args:
        frame: All audits of models trained for them.
        pools: All audits of models drawn from pools; may be empty.
        out: Folder of the results.
        plan: What was run.
    """
    planned = len(list(asked_by(plan)))
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
        *(["", *from_pools(pools, plan)] if len(pools) else []),
    ]
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
