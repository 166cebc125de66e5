"""Run the plans behind docs/results.md; finished cells are kept, so a stopped run goes on where it was.

python experiments/reproduce.py --root DATA            (DATA holds MNIST/raw and CIFAR10)
python experiments/reproduce.py --root DATA --small    (what docs/results.md calls small)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from efface.comparing import Plan
from efface.comparing.plan import read_plan
from efface.running.progress import ConsoleProgress
from efface.verbs.compare import compare

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BESIDE = ("original", "retrain", "logit-mask")
"""Rows that a small version keeps beside those with a published figure."""


def published() -> dict[str, Any]:
    """Return experiments/published.yaml."""
    found: dict[str, Any] = yaml.safe_load((HERE / "published.yaml").read_text(encoding="utf-8"))
    return found


def small_version(plan: Plan, rows: Mapping[str, Any], epochs: float) -> Plan:
    """Return a plan that two cores compute in minutes: fewer epochs, one seed, one request, fewer rows.

    Args:
        plan: As committed.
        rows: Those with a published figure; beside them stay `BESIDE`, and all rows where there are none.
        epochs: Of the originals, at most.
    """
    kept = tuple(e for e in plan.methods if not rows or e.name in rows or e.method in BESIDE)
    recipe = plan.recipe.but(epochs=min(plan.recipe.epochs, epochs))
    about = f"Small version of {plan.name}: {recipe.epochs:g} epochs instead of {plan.recipe.epochs:g}. {plan.about}"
    names = {e.name for e in kept}
    return plan.model_copy(
        update={
            "name": f"{plan.name}_small",
            "about": about,
            "recipe": recipe,
            "seeds": plan.seeds[:1],
            "requests": plan.requests[:1],
            "methods": kept,
            "published": {k: v for k, v in plan.published.items() if k in names},
        }
    )


def chosen(small: bool) -> list[tuple[Plan, Path]]:
    """Return the plans to run, and where each one's results go, those on MNIST first."""
    known = published()
    wanted = {w["plan"]: w for w in (*known["tables"], *known["figures"]) if w["small_epochs"] or not small}
    plans = {name: read_plan(HERE / f"{name}.yaml") for name in wanted}
    if small:
        for name, one in wanted.items():
            rows = {} if one.get("small_rows") == "all" else one.get("rows", {})
            plans[name] = small_version(plans[name], rows, one["small_epochs"])
    return [(p, RESULTS / p.name) for p in sorted(plans.values(), key=lambda p: p.data.source != "mnist")]


def main() -> None:
    """Run the plans one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="folder that holds MNIST/raw and CIFAR10")
    parser.add_argument("--small", action="store_true", help="fewer epochs, one seed, one class, published rows")
    parser.add_argument("--workers", type=int, default=1, help="jobs at once; times then cannot be compared")
    arguments = parser.parse_args()
    for plan, folder in chosen(arguments.small):
        started = time.monotonic()
        compare(
            plan,
            out=folder,
            root=arguments.root,
            workers=arguments.workers,
            cells=RESULTS / ".cells",
            progress=ConsoleProgress(),
        )
        print(f"{plan.name}: {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
