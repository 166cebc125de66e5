"""What the scripts that run a plan share: the plan with its data and places, its original, and its retrained models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml

import efface
from efface.artifact.artifact import Artifact
from efface.data import load
from efface.data.subset import SubSamples
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


def opened(plan_file: str) -> tuple[dict[str, Any], Path]:
    """Return a plan and its folder of results, which is made, and go on with one thread, so that times compare."""
    torch.set_num_threads(1)
    plan: dict[str, Any] = yaml.safe_load(Path(plan_file).read_text(encoding="utf-8"))
    out = Path(plan_file).parents[1] / "results" / plan["name"]
    out.mkdir(parents=True, exist_ok=True)
    return plan, out


def data_of(plan: dict[str, Any], root: str) -> efface.Data:
    """Return the plan's data, or the first so many records of its training and test set."""
    source, most = plan["data"]["source"], plan["data"].get("records")
    data = load(source, None if source == "digits" else Path(root))
    if most is None:
        return data
    view = np.arange(most)
    return dataclasses.replace(data, train=SubSamples(data.train, view), test=SubSamples(data.test, view))


def planned(plan_file: str, root: str, folder: str) -> Planned:
    """Read a plan and its data, and make its folder of results; see `opened`."""
    plan, out = opened(plan_file)
    return Planned(plan, data_of(plan, root), Path(folder), out)


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
