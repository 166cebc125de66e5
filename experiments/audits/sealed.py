"""Which sealed questions have power: level (c) audits with them of models known to have kept something.

Run: python experiments/audits/sealed.py PLAN.yaml DATA WORK
Writes ../results/NAME/results.csv (one row per class and row of the plan) and table.md in experiments/. A stopped run
resumes; models are kept in WORK.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import pandas as pd
import torch
from audits import name_of
from planned import finished, original_of, planned, references_of

import efface
from efface.artifact.artifact import Artifact
from efface.auditing.checks import USEFULNESS
from efface.auditing.questions import QUESTIONS, SEALED
from efface.auditing.sealed import SEED
from efface.auditing.settings import AuditSettings
from efface.errors import InputError
from efface.methods.applying import rebuilt
from efface.models.head import head
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.training.recipe import Recipe

SETTINGS = AuditSettings(sealed=True)


def prepared(plan: dict, method: str, data: efface.Data, work: Path) -> Artifact:
    """Train the original that a method prepares, or load it."""
    folder = work / f"original-{plan['seed']}-{method}"
    if not folder.is_dir():
        recipe = Recipe(**plan["recipe"], seed=plan["seed"])
        efface.train(ModelSpec(**plan["model"]), data, recipe=recipe, method=method, device="cpu").save(folder)
    return Artifact.load(folder, trust=True)


def made_by(row: dict, start: Artifact, data: efface.Data, request: Request, folder: Path) -> Artifact:
    """Forget by a row of the plan, or load what it made; a bias that is to be lowered is lowered afterwards."""
    if not folder.is_dir():
        settings = {"method": row["method"], "settings": row.get("settings"), "seed": 7, "device": "cpu"}
        efface.forget(start, data, request, **settings).save(folder)
    artifact = Artifact.load(folder, trust=True, rebuild=rebuilt)
    if "lowered" not in row:
        return artifact
    model = copy.deepcopy(artifact.model)
    _, layer = head(model, torch.zeros(2, *data.input_shape))
    with torch.no_grad():
        layer.bias[list(request.classes)] -= row["lowered"]
    return dataclasses.replace(artifact, model=model)


def concluded(found: efface.auditing.result.Audit) -> dict:
    """Return an audit as one row: which of today's questions differ, and every sealed one's value, band and side."""
    checks = {c.key: c for c in found.verdict.checks}
    row = found.row(found.candidate)
    today = [q.key for q in QUESTIONS if q.key not in USEFULNESS and checks[q.key].outcome == "differs"]
    cells: dict = {"today": " ".join(today), "audit seconds": found.seconds}
    for q in SEALED:
        score = row[q.measure]
        cells |= {
            q.key: checks[q.key].direction
            or checks[q.key].outcome.replace("not assessed", "alike" if score.measured else "-"),
            f"{q.key} value": score.value,
            f"{q.key} low": score.floor_low,
            f"{q.key} high": score.floor_high,
        }
    shown = ("path_distance", "path_barrier")
    return cells | {key: row[key].value for key in shown}


def main(plan_file: str, root: str, folder: str) -> None:
    """Run the plan, skipping what is in results.csv already."""
    plan, data, work, out = planned(plan_file, root, folder)
    rows = finished(out)
    original = original_of(plan, data, work)
    for c in plan["classes"]:
        request = Request.of(classes=[c])
        references = references_of(original, data, plan["seed"], c, plan["references"], work)
        for row in plan["rows"]:
            if any((r["class"], r["row"]) == (c, row["label"]) for r in rows):
                continue
            start = prepared(plan, row["method"], data, work) if row.get("prepared") else original
            made = work / plan["name"] / f"class-{c}" / name_of(row["label"])
            try:
                artifact = made_by(row, start, data, request, made)
            except InputError as error:
                rows.append({"class": c, "row": row["label"], "refused": str(error)})
                continue
            options = {"original": start, "retrained": references, "settings": SETTINGS, "seed": SEED}
            found = efface.audit(artifact, data, request, **options, device="cpu")
            rows.append({"class": c, "row": row["label"], "refused": ""} | concluded(found))
            pd.DataFrame(rows).to_csv(out / "results.csv", index=False, float_format="%.4f")
            print(c, row["label"], {k: v for k, v in rows[-1].items() if v in {"left", "over", "unlike"}}, flush=True)
            write_table(pd.DataFrame(rows), out / "table.md", plan)


def write_table(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write in how many audits each question found a difference, one line per row of the plan."""
    keys = [q.key for q in SEALED]
    lines = [
        f"Sealed audits at level (c), {plan['references']} retrained models a class; classes "
        f"{', '.join(map(str, dict.fromkeys(frame['class'])))}.",
        "Cells: in how many audits a question differs, and the score over its classes. Today: in how many any question",
        "about forgetting differs that is not sealed. Written by experiments/audits/sealed.py.",
        "",
        "| row | audits | today | " + " | ".join(keys) + " | any sealed |",
        "|---" * (len(keys) + 4) + "|",
    ]
    for label in dict.fromkeys(frame["row"]):
        part = frame[(frame["row"] == label) & (frame["refused"].fillna("") == "")]
        if part.empty:
            lines.append(
                f"| {label} | refused: {frame[frame['row'] == label]['refused'].iloc[0]} |" + " |" * (len(keys) + 2)
            )
            continue
        differs = part[keys].isin(["left", "over", "unlike"])
        cells = []
        for key in keys:
            values = pd.to_numeric(part[f"{key} value"], errors="coerce").dropna()
            shown = (
                "-" if values.empty else f"{values.min():.3g}" + (f" to {values.max():.3g}" if len(values) > 1 else "")
            )
            cells.append(f"{differs[key].sum()} ({shown})")
        today = (part["today"].fillna("") != "").sum()
        lines.append(f"| {label} | {len(part)} | {today} | {' | '.join(cells)} | {differs.any(axis=1).sum()} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
