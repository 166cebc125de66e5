"""Choose defaults on held-out training data: the value with the highest mean of kept x (1 - forgotten) accuracy.

Of values within half a point of the best, the present default stays if it is one of them. Test data is never read.

Run: python experiments/defaults.py PLAN.yaml WORK [DATA]      (DATA: the folder of data that is read from one)
Writes results/NAME/results.csv and table.md in experiments/. A stopped run resumes.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path

import pandas as pd
import torch
import yaml

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.case import split_under
from efface.data import load
from efface.errors import ForgettingWarning
from efface.methods.catalogue import make
from efface.models.predictions import accuracy_of
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.training.recipe import Recipe

TIE = 0.5


def original_of(plan: dict, seed: int, method: str | None, data: efface.Data, work: Path) -> Artifact:
    """Train an original, prepared by a method where that is asked for, or load it."""
    folder = work / f"defaults-{seed}-{method or 'plain'}"
    if not folder.is_dir():
        recipe = Recipe(**plan["recipe"], seed=seed)
        efface.train(ModelSpec(**plan["model"]), data, recipe=recipe, method=method, device="cpu").save(folder)
    return Artifact.load(folder, trust=True)


def main(plan_file: str, folder: str, root: str | None = None) -> None:
    """Try every value on every request that is not in results.csv already."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ForgettingWarning)
    plan, work = yaml.safe_load(Path(plan_file).read_text(encoding="utf-8")), Path(folder)
    out = Path(plan_file).parent / "results" / plan["name"]
    out.mkdir(parents=True, exist_ok=True)
    data = load(plan["data"]["source"], root, **plan["data"].get("options", {}))
    file = out / "results.csv"
    rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
    for choice in plan["choices"]:
        method, field = choice["method"], choice["field"]
        for seed, c, value in itertools.product(plan["seeds"], choice["classes"], choice["values"]):
            key = {"method": choice.get("label", method), "field": field, "seed": seed, "class": c, "value": value}
            if any(all(r[k] == v for k, v in key.items()) for r in rows):
                continue
            original = original_of(plan, seed, method if choice.get("prepared") else None, data, work)
            request = Request.of(classes=[c])
            settings = choice.get("settings", {}) | {field: value}
            made = efface.forget(original, data, request, method=method, settings=settings, seed=seed, device="cpu")
            split = split_under(original.record, data, request).only(("validation",), "this choice")
            kept, gone = (accuracy_of(made.model, p) for p in (split.validation_retain, split.validation_forget))
            rows.append(key | {"kept": 100 * kept, "forgotten": 100 * gone, "score": 100 * kept * (1 - gone)})
            pd.DataFrame(rows).to_csv(file, index=False, float_format="%.6g")
            print(rows[-1], flush=True)
            write_table(pd.DataFrame(rows), out / "table.md", plan)


def write_table(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write one line per value, and what follows."""
    seeds = ", ".join(map(str, plan["seeds"]))
    lines = [
        f"Data {plan['data']['source']}, seeds {seeds}; held-out training data alone. Score: mean of kept x (1 -",
        "forgotten) accuracy. Of values within half a point of the best the present default stays, if it is one of",
        "them; else the best is chosen. Written by experiments/defaults.py.",
        "",
        "| method | default of | value | requests | kept | forgotten | score | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for choice in plan["choices"]:
        method, field = choice["method"], choice["field"]
        label = choice.get("label", method)
        part = frame[frame["method"] == label]
        if part.empty:
            continue
        means = part.groupby("value")[["kept", "forgotten", "score"]].mean()
        now, best = make(method).settings()[field], means["score"].idxmax()
        chosen = now if now in means.index and means["score"][now] >= means["score"].max() - TIE else best
        for value, line in means.iterrows():
            words = [w for w, is_so in (("default", value == now), ("chosen", value == chosen)) if is_so]
            n = (part["value"] == value).sum()
            cells = " | ".join(f"{line[k]:.2f}" for k in ("kept", "forgotten", "score"))
            lines.append(f"| {label} | `{field}` | {value:g} | {n} | {cells} | {', '.join(words)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
