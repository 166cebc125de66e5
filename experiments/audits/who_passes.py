"""Who passes, at what price: level (c) audits of every row against other retrained models than `auto` was judged by.

Run: python experiments/audits/who_passes.py PLAN.yaml DATA WORK
Writes ../results/NAME/results.csv (one row per seed, class and row of the plan), table.md, short.md and pareto.png in
experiments/. A stopped run resumes; models are kept in WORK. All rows of a request share one look at the references.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from audits import USE, name_of
from planned import finished, original_of, planned, references_of
from who_passes_figure import write_figure, write_short, write_table

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.case import split_under
from efface.auditing.answers import AllAnswers
from efface.auditing.checks import Standard, checks_against_floor
from efface.auditing.records import Records
from efface.auditing.rows import Row, Rows
from efface.auditing.sealed import SEED, sealed_checks, with_deeper
from efface.auditing.settings import AuditSettings
from efface.auditing.table import Table
from efface.auditing.yardstick import unfit
from efface.methods.applying import rebuilt
from efface.methods.method import Method
from efface.references.as_long import shortened
from efface.request import Request
from efface.running.run import Run

SCORES = ("test_accuracy", "retain_accuracy", "probe_recall_few", "separation", "relearn_steps")


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Collect the processor seconds of every method's forgetting while the block runs, without checks and judging."""
    spent: list[float] = []
    whole = Method.forget_and_keep

    def timed(self: Method, *arguments: Any) -> Any:
        began = time.process_time()
        made = whole(self, *arguments)
        spent.append(time.process_time() - began)
        return made

    Method.forget_and_keep = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        Method.forget_and_keep = whole  # type: ignore[method-assign]


def made_by(
    row: dict, original: Artifact, data: efface.Data, request: Request, judges: Sequence[Artifact], folder: Path
) -> tuple[Artifact, dict]:
    """Forget by a row of the plan and clock it, or load what it made and its clock."""
    clock = folder.with_suffix(".json")
    if not clock.is_file():
        start, options = shortened(original, row.get("epochs")), {"method": row["method"], "seed": 7, "device": "cpu"}
        trials = folder.with_suffix(".trials")
        if row["method"] == "auto":
            options |= {"retrained": judges, "keep_trials": trials}
        else:
            options |= {"settings": row.get("settings")}
        began = time.process_time()
        with clocked() as forgetting:
            made = efface.forget(start, data, request, **options)
        cells = {"cpu": time.process_time() - began, "forgetting": sum(forgetting), "method": made.record.method}
        if trials.is_dir():
            tried = json.loads((trials / "trials.json").read_text(encoding="utf-8"))["trials"]
            cells["trials"] = " ".join(t["method"] for t in tried if not t["refused"])
        made.save(folder, overwrite=True)
        clock.write_text(json.dumps(cells), encoding="utf-8")
    return Artifact.load(folder, trust=True, rebuild=rebuilt), json.loads(clock.read_text(encoding="utf-8"))


def verdicts(differs: str) -> dict:
    """Return both verdicts by what differs; more use than a retrained model's is no harm."""
    found = dict(d.split(":") for d in differs.split())
    useful = "worse" not in {side for key, side in found.items() if key in USE}
    return {"forgotten": not set(found) - USE, "useful": useful, "differs": differs}


def audited(
    models: dict[str, Artifact], original: Artifact, references: Sequence[Artifact], data: efface.Data,
    request: Request, *, sealed: bool = False,
) -> dict[str, dict]:  # fmt: skip
    """Return, per row, both verdicts of its level (c) audit and what differs."""
    first, *further = (Row(f"reference {k}", "retrained", r.model) for k, r in enumerate(references))
    others = [Row(name, "other", m.model) for name, m in models.items()]
    others[0] = Row(others[0].name, "candidate", others[0].model)
    rows = Rows((Row("original", "original", original.model, record=original.record), first, *others), tuple(further))
    run = Run(seed=SEED, device="cpu")
    records = Records.drawn(split_under(original.record, data, request), AuditSettings(sealed=sealed), run)
    answers = AllAnswers.of(rows, records)
    if reason := unfit(answers, records):
        raise SystemExit(reason)
    table = Table.of(rows, answers, records)
    if sealed:
        table = with_deeper(table, rows, answers, records)
    standard = Standard(rows.level, table.floors, records.settings, records.simultaneous_confidence)
    control = checks_against_floor(table.scores["original"], standard, by_class=True)
    hidden = sealed_checks(table.scores["original"], by_class=True) if sealed else ()
    found = {}
    for name in models:
        checks = checks_against_floor(table.scores[name], standard, by_class=True, control=control)
        if sealed:
            checks = (*checks, *sealed_checks(table.scores[name], by_class=True, control=hidden))
        differs = {c.key: c.direction for c in checks if c.outcome == "differs"}
        found[name] = verdicts(" ".join(f"{k}:{side}" for k, side in differs.items()))
        found[name] |= {key: table.scores[name][key].value for key in SCORES}
    return found


def warmed(original: Artifact, data: efface.Data) -> None:
    """Load what the first use of each method loads, so that no row of the table pays for it."""
    for method in ("retrain", "class-transport", "project-distil", "undo"):
        efface.forget(shortened(original, 0.1), data, Request.of(classes=[0]), method=method, device="cpu")


def main(plan_file: str, root: str, folder: str) -> None:
    """Run the plan, skipping what is in results.csv already; the sealed questions come last."""
    plan, data, work, out = planned(plan_file, root, folder)
    done = finished(out)
    warmed(original_of(plan | {"seed": plan["seeds"][0]}, data, work), data)
    for sealed, seed, c in itertools.product((False, True), plan["seeds"], plan["classes"]):
        here = {r["row"]: r for r in done if (r["seed"], r["class"]) == (seed, c)}
        labels = [r["label"] for r in plan["rows"] if not sealed or r["label"] in plan.get("sealed", ())]
        column = "sealed forgotten" if sealed else "forgotten"
        if not labels or all(str(here.get(label, {}).get(column, "")) for label in labels):
            continue
        original, request = original_of(plan | {"seed": seed}, data, work), Request.of(classes=[c])
        wanted = plan["judges"] + plan["references"]
        trained = references_of(original, data, seed, c, wanted, work, plan.get("backend", "auto"))
        references = list(trained)[:wanted]
        judges, others = references[: plan["judges"]], references[plan["judges"] :]
        models, clocks = {}, {}
        for row in plan["rows"]:
            if row["label"] in labels:
                made = work / plan["name"] / f"seed-{seed}-class-{c}" / name_of(row["label"])
                models[row["label"]], clocks[row["label"]] = made_by(row, original, data, request, judges, made)
        found = audited(models, original, others, data, request, sealed=sealed)
        for label, cells in found.items():
            if sealed:
                here[label].update({f"sealed {k}": v for k, v in cells.items() if k not in SCORES})
                continue
            clock, whole = clocks[label], clocks[plan["retraining"]]["forgetting"]
            times = {"share": clock["forgetting"] / whole, "taken": clock["method"]}
            times["with judging"] = clock["cpu"] / whole if "trials" in clock else times["share"]
            done.append({"seed": seed, "class": c, "row": label} | times | {"trials": clock.get("trials", "")} | cells)
        pd.DataFrame(done).fillna("").to_csv(out / "results.csv", index=False, float_format="%.4f")
        print(sealed, seed, c, {k: (v["forgotten"], v["useful"], v["differs"]) for k, v in found.items()}, flush=True)
        write_table(pd.DataFrame(done), out / "table.md", plan)
        write_short(pd.DataFrame(done), out / "short.md", plan)
        write_figure(pd.DataFrame(done), out / "pareto.png", plan)


if __name__ == "__main__":
    main(*sys.argv[1:])
