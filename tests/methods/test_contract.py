"""What every method promises, checked over the whole catalogue: a new file is covered the day it is added.

The promises themselves stand in `efface.testing.contract`, where other packages' methods are held to them, too.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from efface.data import Data, Split
from efface.methods.catalogue import describe, make, methods
from efface.testing.bench import ITEMS, RECIPE, REQUESTS, Bench
from efface.testing.contract import *  # noqa: F403 - its tests

QUICK: dict[str, dict[str, Any]] = {
    "amnesiac": {"classes": [0, 3, 8], "items": [7, *ITEMS]},  # has to know before training what may be asked for
    "arcane": {"blocks": 2},
    "boundary-expand": {"epochs": 2, "min_steps": 10},
    "boundary-shrink": {"epochs": 2, "min_steps": 10},
    # At the default lam and sigma so few records leave no budget for one request; secret noise is never the same.
    "certified-removal": {"lam": 10.0, "sigma": 1e4, "noise": "run"},
    "cf-k": {"epochs": 2},
    "eu-k": {"epochs": 2},
    "erm-ktp": {"reg": 0.1},  # so few steps need a stronger pull before a mask has zeros
    "l1-sparse": {"epochs": 2},
    "lwsf": {"steps": 20},
    "neg-grad-plus": {"epochs": 1},
    "random-labels": {"epochs": 2},
    "salun": {"epochs": 2},
    "scrub": {"retain_steps": 10, "forget_steps": 5},
    "sisa": {"shards": 3, "slices": 2},
    "unsir": {"noise_steps": 5, "noise_batch": 32, "min_steps": 5},
    "zero-shot-gkt": {"pseudo_batches": 3, "batch_size": 32, "student_steps": 2, "generator_width": 16},
    "zero-shot-noise": {"noise_steps": 5, "noise_batch": 32},
}
"""Settings for methods whose defaults take too long here; every other method runs with its defaults."""

NAMES = sorted(methods())
SUBJECTS = [make(name, QUICK.get(name, {})) for name in NAMES]


@pytest.fixture(scope="session")
def bench(digits_data: Data, trained: dict[str, Any]) -> Bench:
    """As the contract's own, with the networks that the other tests of this folder use."""
    return Bench(digits_data, trained)


def test_quick_settings_name_methods_of_the_catalogue() -> None:
    assert set(QUICK) <= set(NAMES)


def test_retraining_touches_every_kept_sample_once_an_epoch(bench: Bench) -> None:
    outcome = bench.usual(make("retrain"))
    assert outcome.made.record.spent is not None
    assert outcome.made.record.spent.samples == {
        "forget": 0,
        "retain": int(RECIPE.epochs) * len(Split.of(bench.data, REQUESTS["one class"]).retain),
        "validation": 0,
    }


@pytest.mark.parametrize("name", NAMES)
def test_its_defaults_are_validated_and_survive_json(name: str) -> None:
    assert name == name.lower().replace("_", "-")
    method = make(name)
    assert make(name, json.loads(json.dumps(method.settings()))) == method
    assert set(method.reads()) <= set(method.needs.reads)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_varies_every_method_that_has_something_to_vary(name: str) -> None:
    assert bool(methods()[name].space) != (name in {"logit-mask", "retrain", "sisa", "arcane", "certified-removal"})


def test_the_catalogue_describes_every_method_in_a_sentence() -> None:
    rows = describe()
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        assert row["summary"].endswith(".")
        assert "O(" in row["cost"]
    json.dumps(rows)
