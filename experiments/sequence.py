"""Requests that follow one another: is what earlier ones forgot still forgotten after the last?

Run: python experiments/sequence.py PLAN.yaml WORK [--root DATA]      (DATA holds what the plan's source reads)
Writes results/NAME/results.csv (a row per chain and request) and table.md in experiments/. Models are kept in WORK; a
stopped run resumes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

import efface
from efface.artifact.artifact import Artifact
from efface.auditing.questions import QUESTIONS
from efface.data import load
from efface.errors import ForgettingWarning
from efface.methods.applying import rebuilt
from efface.models.spec import ModelSpec
from efface.references import load_references
from efface.request import Request
from efface.training.recipe import Recipe

KEYS = {q.question: q.key for q in QUESTIONS}


def grouped(plan: dict, root: Path | None) -> efface.Data:
    """Return the data, its training records in made groups."""
    plain = load(plan["data"]["source"], root, **plan["data"].get("options", {}))
    order = np.random.default_rng(plan["seed"]).permutation(len(plain.train))
    groups = np.array([f"g{k % plan['groups']}" for k in order])
    return efface.Data(plain.name, plain.train, plain.test, plain.classes, groups=groups)


def chain_of(plan: dict, methods: list[str], data: efface.Data, original: Artifact, folder: Path) -> list[Artifact]:
    """Forget one request after another, or load what did."""
    made = [original]
    for k, asked in enumerate(plan["requests"]):
        there = folder / f"after-{k + 1}"
        if not there.is_dir():
            method = methods["classes" not in asked]
            settings = {"method": method, "seed": plan["seed"] + k, "device": "cpu"}
            efface.forget(made[-1], data, Request(**asked), **settings).save(there)
        made.append(Artifact.load(there, trust=True, rebuild=rebuilt))
    return made


def main(plan_file: Path, work: Path, root: Path | None) -> None:
    """Make the chains and ask about all their requests."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ForgettingWarning)
    plan = yaml.safe_load(plan_file.read_text(encoding="utf-8"))
    out = plan_file.parent / "results" / plan["name"]
    out.mkdir(parents=True, exist_ok=True)
    data, start = grouped(plan, root), work / "original"
    if not start.is_dir():
        recipe = Recipe(**plan["recipe"], seed=plan["seed"])
        efface.train(ModelSpec(**plan["model"]), data, recipe=recipe, device="cpu").save(start)
    original, rows, references = Artifact.load(start, trust=True), [], None
    for label, methods in plan["chains"].items():
        made = chain_of(plan, methods, data, original, work / label.replace(" ", "-").replace(",", ""))
        if references is None:
            there = work / "references"
            last = Request(**plan["requests"][-1])
            efface.train_references(made[-2], data, last, plan["references"], there, workers=1, device="cpu")
            references = load_references(there, trust=True)
        options = {"original": original, "retrained": references, "all_requests": True, "steps": made[1:-1]}
        found = efface.audit(made[-1], data, **options, seed=plan["seed"], device="cpu")
        for one in found.sequence:
            row = one.model_dump(include={"step", "text", "method", "records", "outcome", "answer"})
            shares = one.model_dump(include={"original", "then", "now", "retrained"})
            rows.append({"chain": label} | row | shares | {"differs": " ".join(KEYS[q] for q in one.differs)})
        pd.DataFrame(rows).to_csv(out / "results.csv", index=False, float_format="%.4f")
        print(label, [one.answer for one in found.sequence], flush=True)
    write_table(pd.DataFrame(rows), out / "table.md", plan)


def write_table(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write one line per chain and request."""
    lines = [
        f"{len(plan['requests'])} requests of one model ({plan['data']['source']}), each asked about again after the",
        f"last, beside {plan['references']} models retrained without all of them. Shares: how many of a request's",
        "records a model gets right. Written by experiments/sequence.py.",
        "",
        "| chain | request | method | records | before all | just after | now | retrained | did it forget? | differs |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for _, one in frame.iterrows():
        shares = " | ".join(f"{100 * one[k]:.1f}" for k in ("original", "then", "now", "retrained"))
        cells = f"{one['chain']} | {one['step']}. {one['text']} | {one['method']} | {one['records']}"
        lines.append(f"| {cells} | {shares} | {one['answer']} | {one['differs'] or '-'} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    main(given.plan, given.work, given.root)
