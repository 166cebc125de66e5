"""A comparison made by hand: cells of five rows, two requests and two seeds, every number different."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from efface.comparing.plan import Plan
from efface.comparing.results import Comparison

METHODS = ("original", "retrain", "fine-tune", "decay", "ssd")
SEEDS = (0, 1)
CLASSES = ("zero", "one", "two")


def cell(entry: str, request: int, seed: int, **changes: Any) -> dict[str, Any]:
    """One finished cell; later methods keep less, and take longer."""
    row = METHODS.index(entry) if entry in METHODS else len(METHODS)
    scores = {"A_R": 98.0 - 3 * row - seed, "E_F": min(100.0, 25.0 * row + request)}
    return {
        "entry": entry,
        "method": entry,
        "settings": {},
        "request": f"class {request}",
        "seed": seed,
        "scores": {k: {"value": v} for k, v in scores.items()},
        "seconds": None if entry == "original" else 10.0 ** (3 - row) + seed,
        "train_seconds": 9.0,
        "refused": "",
        "notes": [],
        "device": "cpu",
        "versions": {},
        "level": "c",
        "outcome": "alike" if (row + seed) % 2 else "differs",
        "useful": "alike",
        "per_class": {name: 0.9 - 0.1 * i - 0.01 * row for i, name in enumerate(CLASSES)},
        "course": [
            [0, 1, 2, 3][: 4 - seed],
            {"retain accuracy": [0.9] * (4 - seed), "forget accuracy": [0.8, 0.4, 0.1, 0.0][: 4 - seed]},
        ]
        if entry == "decay"
        else None,
        **changes,
    }


def made(extra: list[dict[str, Any]] | None = None, **changes: Any) -> Comparison:
    """A comparison of `METHODS`, with more cells and other fields of the plan if they are given."""
    methods = [{"method": m} for m in METHODS]
    plan = {
        "name": "by-hand",
        "about": "Made by hand.",
        "data": {"source": "digits"},
        "model": {"build": "mlp", "arguments": {"hidden": [16]}},
        "requests": [{"classes": [0]}, {"classes": [1]}],
        "seeds": SEEDS,
        "methods": methods,
        "published": {"decay": {"A_R": "91.5 ± 0.2", "E_F": "99.0"}, "ssd": {"A_R": "-", "E_F": "unclear"}},
    } | changes
    rows = [cell(m, request, seed) for m in METHODS for request in (0, 1) for seed in SEEDS]
    return Comparison.of(Plan.model_validate(plan), rows + (extra or []))


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    return made
