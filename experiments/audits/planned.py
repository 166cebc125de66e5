"""What the scripts that run a plan share: the plan with its data and places, its original, and its retrained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml

import efface
from efface.artifact.artifact import Artifact
from efface.data import load
from efface.models.spec import ModelSpec
from efface.references import References, load_references
from efface.request import Request
from efface.training.recipe import Recipe


class Planned(NamedTuple):
    """A plan of this folder, read.

    Attributes:
        plan: The file's content.
        data: What it asks about.
        work: Folder of models, which a stopped run finds again.
        out: Folder of results, `../results/NAME`.
    """

    plan: dict[str, Any]
    data: efface.Data
    work: Path
    out: Path


def planned(plan_file: str, root: str, folder: str) -> Planned:
    """Read a plan and its data, make its folder of results, and go on with one thread, so that times compare."""
    torch.set_num_threads(1)
    plan = yaml.safe_load(Path(plan_file).read_text(encoding="utf-8"))
    out = Path(plan_file).parents[1] / "results" / plan["name"]
    out.mkdir(parents=True, exist_ok=True)
    source = plan["data"]["source"]
    return Planned(plan, load(source, None if source == "digits" else Path(root)), Path(folder), out)


def finished(out: Path) -> list[dict[str, Any]]:
    """Return the rows that results.csv holds already; what a row has no value for is an empty text."""
    file = out / "results.csv"
    return pd.read_csv(file, keep_default_na=False).to_dict("records") if file.is_file() else []


def original_of(plan: dict[str, Any], data: efface.Data, work: Path) -> Artifact:
    """Train the plan's original, or load it."""
    folder = work / f"original-{plan['seed']}"
    if not folder.is_dir():
        recipe = Recipe(**plan["recipe"], seed=plan["seed"])
        efface.train(ModelSpec(**plan["model"]), data, recipe=recipe, device="cpu").save(folder)
    return Artifact.load(folder, trust=True)


def references_of(
    original: Artifact, data: efface.Data, seed: int, c: int, count: int, work: Path, backend: str = "auto"
) -> References:
    """Train the models without class `c` that are missing, one by one, so that times compare, and load all of them."""
    there, request = work / f"references-{seed}-{c}", Request.of(classes=[c])
    efface.train_references(original, data, request, count, there, workers=1, device="cpu", backend=backend)
    return load_references(there, trust=True)
