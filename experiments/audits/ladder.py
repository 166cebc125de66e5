"""How strict a judge and which first value of a knob: what `auto` would take, and whether other references agree.

Run: python experiments/audits/ladder.py PLAN.yaml DATA WORK
Every value of the knob is tried on every request, judged at every confidence, and audited at level (c) against other
retrained models. Ladders are then walked over what was found: begin at a value, turn by the judge's side, stop when it
is content or, for those that leave early, when a turn missed by no less in sum (`auto` does not compare misses of its
quick questions with those of the audit's). Writes ../results/NAME/results.csv (one row
per seed, class and value) and table.md in experiments/. A stopped run resumes.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from error_tables import table
from planned import finished, original_of, planned, references_of
from who_passes import audited

import efface
from efface.artifact.case import Case
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.request import Request
from efface.searching.judge import Judge, Standards
from efface.searching.ladder import TURNS, UP_OR_DOWN


class Walk(NamedTuple):
    """What one ladder did on one request."""

    trials: int
    content: bool
    value: float


def walk(found: pd.DataFrame, confidence: float, first: float, early: bool) -> Walk:
    """Turn the knob over the values of one request as `auto` does; to the middle means to the value between.

    Args:
        found: Rows of one request.
        confidence: Which judge.
        first: The value to begin with.
        early: Whether to stop where a turn in one direction missed by more than the value before.
    """
    values = sorted(found["value"])
    rows = {row["value"]: row for row in found.to_dict("records")}
    at, low, high, before, best = values.index(first), -1, len(values), None, (float("inf"), first)
    for trial in range(1, TURNS + 2):
        row = rows[values[at]]
        excess, side = row[f"excess {confidence}"], row[f"side {confidence}"]
        best = min(best, (excess, values[at]))
        if excess == 0:
            return Walk(trial, True, values[at])
        open_ended = low < 0 or high == len(values)
        if side not in UP_OR_DOWN or (early and open_ended and before is not None and excess >= before):
            break
        low, high = (at, high) if UP_OR_DOWN[side] > 0 else (low, at)
        bracketed = low >= 0 and high < len(values)
        wanted = (low + high) // 2 if bracketed else min(len(values) - 1, max(0, at + 2 * UP_OR_DOWN[side]))
        if wanted in (at, low if bracketed else -1):
            break
        at, before = wanted, excess
    return Walk(trial, False, best[1])


def walks(frame: pd.DataFrame, plan: dict) -> pd.DataFrame:
    """Return one row per judge, first value and habit of leaving."""
    rows = []
    for confidence, first, early in itertools.product(plan["confidences"], (1.0, 1.414, 2.0, 2.828), (False, True)):
        done = [
            (walk(group, confidence, first, early), group.set_index("value"))
            for _, group in frame.groupby(["seed", "class"])
        ]
        content = [(w, g) for w, g in done if w.content]
        rows.append(
            {
                "judge": confidence,
                "first": first,
                "leaves early": "yes" if early else "no",
                "content": f"{len(content)} of {len(done)}",
                "of these the audit agrees": sum(bool(g.loc[w.value, "passed"]) for w, g in content),
                "trials (mean)": round(sum(w.trials for w, _ in done) / len(done), 2),
                "one trial": sum(w.trials == 1 and w.content for w, _ in done),
                "trials of the discontent": sum(w.trials for w, _ in done if not w.content),
            }
        )
    return pd.DataFrame(rows)


def by_value(frame: pd.DataFrame, plan: dict) -> pd.DataFrame:
    """Return one row per value: audits passed, judges content, and what judges say on which side."""
    rows = []
    for value, group in frame.groupby("value"):
        cells: dict = {"value": value, "audit passes": f"{int(group['passed'].sum())} of {len(group)}"}
        for confidence in plan["confidences"]:
            content = group[group[f"excess {confidence}"] == 0]
            sides = group[f"side {confidence}"].value_counts()
            said = ", ".join(f"{side} {count}" for side, count in sides.items() if side)
            cells[f"judge {confidence}"] = f"{len(content)}, audit agrees {int(content['passed'].sum())} ({said})"
        rows.append(cells)
    return pd.DataFrame(rows)


def tried_on(seed: int, c: int, plan: dict, data: efface.Data, work: Path) -> list[dict]:
    """Try, judge and audit every value on one request."""
    original, request = original_of(plan | {"seed": seed}, data, work), Request.of(classes=[c])
    wanted = plan["judges"] + plan["references"]
    references = list(references_of(original, data, seed, c, wanted, work, plan["backend"]))[:wanted]
    judges, others = [r.model for r in references[: plan["judges"]]], references[plan["judges"] :]
    case = Case.of(original, data, request, seed=7, device="cpu")
    asked = [Judge(case, judges, Standards(confidence=confidence)) for confidence in plan["confidences"]]
    made = {str(v): apply(make(plan["method"], {plan["knob"]: v}), case.child()) for v in plan["values"]}
    found = audited(made, original, others, data, request)
    rows: list[dict] = []
    for value in plan["values"]:
        verdict = found[str(value)]
        cells: dict = {"seed": seed, "class": c, "value": float(value), "differs": verdict["differs"]}
        cells["passed"] = verdict["forgotten"] and verdict["useful"]
        for confidence, judge in zip(plan["confidences"], asked, strict=True):
            trial = judge(made[str(value)], {})
            cells |= {f"excess {confidence}": trial.excess, f"side {confidence}": trial.side}
        rows.append(cells)
    return rows


def written(frame: pd.DataFrame, plan: dict) -> str:
    """Return table.md."""
    words = (
        f"{plan['method']}, {plan['knob']} from {min(plan['values'])} to {max(plan['values'])}; level (c) audits "
        f"against {plan['references']} retrained models, others than the {plan['judges']} of the judge; seeds "
        f"{', '.join(map(str, plan['seeds']))}; {frame.groupby(['seed', 'class']).ngroups} requests. The judge's "
        "bands hold the stated share of further retrained models. Walks turn the knob as `auto` does, over these "
        "values. Written by experiments/audits/ladder.py."
    )
    parts = [f"{line}\n" for line in textwrap.wrap(words, 120)]
    for found in (by_value(frame, plan), walks(frame, plan)):
        parts += ["\n", *(f"{line}\n" for line in table(list(found), found.itertuples(index=False)))]
    return "".join(parts)


def main(plan_file: str, root: str, folder: str) -> None:
    """Run the plan, skipping what is in results.csv already."""
    plan, data, work, out = planned(plan_file, root, folder)
    done = finished(out)
    for seed, c in itertools.product(plan["seeds"], plan["classes"]):
        if any((r["seed"], r["class"]) == (seed, c) for r in done):
            continue
        done += tried_on(seed, c, plan, data, work)
        pd.DataFrame(done).to_csv(out / "results.csv", index=False, float_format="%.4f")
        print(seed, c, [(r["value"], r["passed"], r["differs"]) for r in done[-len(plan["values"]) :]], flush=True)
    frame = pd.read_csv(out / "results.csv", keep_default_na=False)
    (out / "table.md").write_text(written(frame, plan), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
