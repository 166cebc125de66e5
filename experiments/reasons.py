"""Why decay's figures differ from published ones: results/reasons/table.md, from one command.

    python experiments/reasons.py DATA WORK          (DATA holds MNIST/raw; WORK keeps models, so that it resumes)

`decay` (LeNet-5, class 0; the recipe of mnist_lenet5_decay.yaml): how far its random control and its run without
fine-tuning vary, over three originals; random draws apart by whether they take the class's own output row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import nn

import efface
from efface.artifact.artifact import Artifact
from efface.comparing.plan import Plan, read_plan
from efface.data import Data, Split, load
from efface.files import write_file
from efface.importance import Unit, unit_list
from efface.methods.decay import fade
from efface.models.predictions import accuracy_of
from efface.request import Request
from efface.running.run import Run

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "reasons"
REQUEST = Request.of(classes=[0])
SEEDS = range(3)
TOP, RATE, STEPS = 23, 0.2, 7
DRAWS, WITH_ROW = 60, 30
OWN = Unit("fc3", (0,))
PUBLISHED_RANDOM = 54.59


def original_of(plan: Plan, seed: int, data: Data, work: Path) -> Artifact:
    """Train an original as the plan does, or load it."""
    folder = work / f"{plan.name}-{seed}"
    if not folder.is_dir():
        recipe = plan.recipe.but(seed=seed)
        efface.train(plan.model, data, recipe=recipe, validation=plan.data.validation, device="cpu").save(folder)
    return Artifact.load(folder, trust=True)


def percent(model: nn.Module, split: Split) -> dict[str, float]:
    """Return A_R and E_F on test data."""
    return {
        "A_R": 100 * accuracy_of(model, split.test_retain),
        "E_F": 100 - 100 * accuracy_of(model, split.test_forget),
    }


def decay(data: Data, work: Path, seed: int) -> Iterator[dict[str, object]]:
    """Yield one row per original and set of units, faded as decay fades them, without fine-tuning."""
    plan = read_plan(HERE / "mnist_lenet5_decay.yaml")
    original = original_of(plan, seed, data, work)
    split, run = Split.of(data, REQUEST, plan.data.validation), Run(seed, "cpu")
    yield {"of": "original"} | percent(original.model, split)
    for label, settings in (
        ("decay, early stop", {}),
        ("decay, all seven steps", {"threshold": 0.0}),
        ("decay, filters' biases kept when measured", {"conv_bias": False}),
    ):
        made = efface.forget(
            original,
            data,
            REQUEST,
            method="decay",
            settings={"fine_tune": "none", "steps": STEPS, **settings},
            device="cpu",
        )
        steps = sum(row["stage"] == "decay" for row in made.record.history)
        yield {"of": label, "steps": steps} | percent(made.model, split)
    units, generator = unit_list(original.model), run.generator("reasons/random units")
    others = [u for u in units if u != OWN]
    for number in range(DRAWS + WITH_ROW):
        forced = number >= DRAWS
        pool, count = (others, TOP - 1) if forced else (units, TOP)
        drawn = [pool[i] for i in torch.randperm(len(pool), generator=generator)[:count].tolist()]
        drawn += [OWN] if forced else []
        model = run.copied(original.model)
        fade(model, drawn, math.exp(-RATE * STEPS))
        yield {
            "of": "random, own row put in" if forced else "random",
            "steps": STEPS,
            "own row": OWN in drawn,
            "filters": sum(u.layer.startswith("conv") for u in drawn),
        } | percent(model, split)


def main(root: str, folder: str) -> None:
    """Measure what is not in the CSV file yet, and write the table."""
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    data, file = load("mnist", Path(root)), OUT / "decay.csv"
    rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
    for seed in SEEDS:
        if not any(row["seed"] == seed for row in rows):
            rows += [{"seed": seed, **row} for row in decay(data, Path(folder), seed)]
            write_file(file, pd.DataFrame(rows).to_csv(index=False, float_format="%.3f"))
    write_file(OUT / "table.md", "\n".join(table(pd.read_csv(file))) + "\n")


def table(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of table.md."""
    yield "# Decay without fine-tuning, LeNet-5, class 0\n"
    yield "Written by experiments/reasons.py. Percent of test samples; mean ± standard deviation, and the range."
    yield f"Published: A_R 92.12, E_F 97.04; random units 81.75, {PUBLISHED_RANDOM}.\n"
    yield f"Originals: seeds {', '.join(map(str, frame['seed'].unique()))}.\n"
    yield "| of | rows | A_R | E_F |\n|---|---|---|---|"
    for label, group in frame.groupby("of", sort=False):
        yield f"| {label} | {len(group)} | {spread(group['A_R'])} | {spread(group['E_F'])} |"
    yield "\nBy original, decay with its early stop:\n"
    yield "| seed | A_R | E_F | steps |\n|---|---|---|---|"
    for row in frame[frame["of"] == "decay, early stop"].to_dict("records"):
        yield f"| {row['seed']} | {row['A_R']:.1f} | {row['E_F']:.1f} | {row['steps']:.0f} |"
    yield ""
    yield from of_random(frame[frame["of"].str.startswith("random")])


def of_random(frame: pd.DataFrame) -> Iterator[str]:
    """Yield what the random draws have in common that come near the published figure."""
    drawn = frame[frame["of"] == "random"]
    near = drawn[drawn["E_F"] >= PUBLISHED_RANDOM]
    yield (
        f"Of the {len(drawn)} draws left to chance, {int(drawn['own row'].astype(bool).sum())} hold the class's own "
        f"output row (expected: {len(drawn) * TOP / 236:.1f}); {len(near)} reach the published E_F of "
        f"{PUBLISHED_RANDOM}, and {int(near['own row'].astype(bool).sum())} of these hold the row.\n"
    )
    yield "| random draws, all | draws | A_R | E_F | E_F at least 54.59 |\n|---|---|---|---|---|"
    for own, group in frame.groupby(frame["own row"].astype(bool)):
        words = "with the own row" if own else "without it"
        above = int((group["E_F"] >= PUBLISHED_RANDOM).sum())
        yield f"| {words} | {len(group)} | {spread(group['A_R'])} | {spread(group['E_F'])} | {above} |"


def spread(values: pd.Series) -> str:
    """Return mean ± standard deviation and the range."""
    return f"{values.mean():.1f} ± {values.std():.1f} ({values.min():.1f} to {values.max():.1f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
