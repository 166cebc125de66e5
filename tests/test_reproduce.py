"""experiments/reproduce.py: which plans run, and what a small version leaves out."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from efface.comparing.plan import read_plan

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(EXPERIMENTS / "reproduce.py"))


def test_every_published_table_and_figure_is_reproduced_by_its_committed_plan(script):
    known = script["published"]()
    wanted = {w["plan"] for w in (*known["tables"], *known["figures"])}
    chosen = {folder.name: plan for plan, folder in script["chosen"](False)}
    assert chosen == {name: read_plan(EXPERIMENTS / f"{name}.yaml") for name in wanted}


def test_small_versions_keep_published_rows_and_what_they_are_compared_with(script):
    known = {t["plan"]: t for t in script["published"]()["tables"]}
    small = {plan.name.removesuffix("_small"): plan for plan, _ in script["chosen"](True)}
    assert set(known) - set(small) == {n for n, t in known.items() if not t["small_epochs"]}
    for name, table in known.items():
        if name in small:
            whole, rows = read_plan(EXPERIMENTS / f"{name}.yaml"), {e.name for e in small[name].methods}
            beside, every = {"original", "retrain", "logit-mask"}, {e.name for e in whole.methods}
            wanted = every if table.get("small_rows") == "all" else every & (beside | set(table["rows"]))
            assert rows == wanted
            assert small[name].recipe.epochs == table["small_epochs"]
            assert (small[name].seeds, small[name].requests) == (whole.seeds[:1], whole.requests[:1])


def test_a_small_version_asks_all_that_the_whole_one_asks(script):
    """But for the rows, nothing of method settings, data and measures is changed."""
    plan = read_plan(EXPERIMENTS / "mnist_lenet5_decay.yaml")
    small = script["small_version"](plan, plan.published, 3)
    assert small.recipe == plan.recipe.but(epochs=3)
    assert all(entry in plan.methods for entry in small.methods)
    kept = {"data", "model", "measures", "train", "audit", "sampled"}
    assert small.model_dump(include=kept) == plan.model_dump(include=kept)
