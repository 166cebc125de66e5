"""Which tolerances level (b) needs, in held-out settings: pairs of retrained models, and models that kept something.

Run: python experiments/audits/level_b.py experiments/audits/level_b.yaml DATA [tables]
In each setting and for each request some retrained models are the reference in turn, and the others are accused.
Writes ../results/level_b/pairs.csv (one row per audit: the tolerance that each question would need to pass) and
table.md in experiments/. A stopped run resumes; with `tables` only the table is written, from what is there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from error_models import Asked, Models, asked_by, side_by_side
from error_tables import TOLERANCES, TRUE, by_tolerances, share, table, wrong
from judged import Judged, judged, remembering
from planned import data_of, opened

from efface.auditing.measures.ain import FEW_STEPS
from efface.auditing.questions import QUESTIONS, Question
from efface.auditing.settings import AuditSettings

WATCHED = 4.0
"""Factor in relearning steps up to which a model is watched here, so that it is known what it would need."""


def needed(q: Question, found: Judged) -> float | None:
    """Return the least tolerance by which a question would pass, or None where it was not asked or cannot fail.

    Of shares the distance of the gap's interval from zero; of factors the factor.
    """
    score = found.scores[q.at_b or q.measure]
    if q.measure == "ain":
        steps = found.scores["relearn_steps"]
        if steps.value is None or steps.reference is None:
            return None
        factor = (steps.value + FEW_STEPS) / (steps.reference + FEW_STEPS)
        return max(factor, 1 / factor)
    if score.value is None:
        return None
    if q.measure == "exposure":
        return abs(score.value)
    if score.gap_low is None or score.gap_high is None:
        return None
    beyond = max(0.0, score.gap_low if q.above != "better" else 0.0, -score.gap_high)
    if q.tolerance != "separation_factor":
        return beyond
    return 1 + beyond / score.reference if score.reference else None


def audited(name: str, plan: dict[str, Any], one: Asked, models: Models, counts: Mapping[str, int]) -> list[dict]:
    """Return one row per audit of one request: a retrained model in turn is the reference."""
    pool = models.retrained({"pool": counts["retrained"]})["pool"]
    kept = {"fine-tune": models.by("fine-tune")}
    if one.target is not None:
        kept["logit-mask"] = models.by("logit-mask")
    kept["1 record left"] = models.left(1)
    rows = []
    with remembering(side_by_side(pool)):
        for i, reference in enumerate(pool[: counts["references"]]):
            accused = {f"retrained {k}": m for k, m in enumerate(pool) if k != i} | kept
            found = judged(models.original, [reference], accused, models.split, AuditSettings(ain_factor=WATCHED))
            for row, one_found in found.items():
                rows.append(
                    {"setting": name, "kind": one.kind, "seed": one.seed, "target": one.target, "reference": i}
                    | {"row": row.split(" ")[0] if row.startswith("retrained") else row}
                    | {q.key: needed(q, one_found) for q in QUESTIONS}
                )
    return rows


def main(plan_file: str, root: str, only: str = "") -> None:
    """Run the plan, skipping requests that are in pairs.csv already."""
    plan, out = opened(plan_file)
    file = out / "pairs.csv"
    frame = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["setting", "seed", "target"])
    for name, setting in plan["settings"].items() if not only else ():
        data, originals = data_of(setting, root), {}
        for one in asked_by(setting):
            own = frame[(frame["setting"] == name) & (frame["seed"] == one.seed)]
            if (own["target"].isna() if one.target is None else own["target"] == one.target).any():
                continue
            rows = audited(name, setting, one, Models(setting, data, one, originals), plan)
            frame = pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)
            frame.to_csv(file, index=False, float_format="%.4g")
            print(name, one, flush=True)
    write_table(frame, out / "table.md", plan)


def write_table(frame: pd.DataFrame, path: Path, plan: dict[str, Any]) -> None:
    """Write how often each question, and any, finds a difference, by the tolerances before and now."""
    both = AuditSettings(**plan["before"]), AuditSettings()
    honest, kept = frame[frame["row"] == TRUE], frame[frame["row"] != TRUE]
    raised = [by_tolerances(honest, settings) for settings in both]
    questions = []
    for key, setting in TOLERANCES.items():
        cells = [int(r["differs"].str.split().map(lambda keys, key=key: key in keys).sum()) for r in raised]
        values = [f"{getattr(settings, setting):g}" for settings in both]
        high = " / ".join(f"{honest[key].dropna().quantile(q):.3g}" for q in (0.9, 0.95, 0.99))
        questions.append((key, values[0], cells[0], values[1], cells[1], high))
    settings_rows = []
    for name in dict.fromkeys(frame["setting"]):
        for kind in ("class", "items"):
            part = honest[(honest["setting"] == name) & (honest["kind"] == kind)]
            counts = [wrong(by_tolerances(part, settings)) for settings in both]
            settings_rows.append((name, kind, *(share(int(c.sum()), len(c)) for c in counts)))
    missed = []
    for kind in ("class", "items"):
        for row in dict.fromkeys(kept["row"]):
            part = kept[(kept["row"] == row) & (kept["kind"] == kind)]
            counts = [(~wrong(by_tolerances(part, settings))).sum() for settings in both]
            missed += [(kind, row, *(f"{c} of {len(part)}" for c in counts))] if len(part) else []
    lines = [
        f"{len(honest)} audits at level (b) of truly retrained models, in settings that no error rate is published of:",
        f"{frame['setting'].nunique()} networks, {len(frame.groupby(['setting', 'seed', 'target'], dropna=False))} "
        f"requests, {plan['references']} references each; pairs share models, so that the intervals are too narrow.",
        "Written by experiments/audits/level_b.py.",
        "",
        *table(("setting", "request", "false alarms before", "now"), settings_rows),
        "",
        "Alarms question by question, and what 90, 95 and 99 % of these audits need to pass.",
        "",
        *table(("question", "tolerance before", "alarms", "now", "alarms", "needed"), questions),
        "",
        "Models that kept something: how many pass.",
        "",
        *table(("request", "model", "before", "now"), missed),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
