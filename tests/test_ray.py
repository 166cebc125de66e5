"""Over Ray as here: the same outcomes and the same cells, in the plain suite, on one cluster that is started once.

Ray is imported outright: the extra `dev` brings it, and a skip would hide that nothing was compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import ray
import torch

import efface
from efface.comparing import Plan
from efface.comparing.as_long import COLUMNS, WHY
from efface.running.engines import Task, over_ray
from efface.verbs.compare import compare
from tests.running.test_engines import EXPECTED, doubled, graph, values

PLAN = {
    "name": "over-ray",
    "data": {"source": "digits"},
    "model": {"build": "mlp", "arguments": {"hidden": [16]}},
    "recipe": {"lr": 0.1, "epochs": 2, "batch_size": 64},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "measures": ["accuracy", "probe"],
    "methods": [
        {"method": "original"},
        {"method": "logit-mask"},
        {"method": "fine-tune", "settings": {"epochs": 0.5}},
        {"method": "fine-tune", "label": "diverges", "settings": {"lr": 1e30}},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """Start one, which everything here joins."""
    ray.init(
        address="local",
        num_cpus=2,
        log_to_driver=False,
        configure_logging=False,
        include_dashboard=False,
        _system_config={"worker_niceness": 0},  # its workers would wait for the tests that run beside these
    )
    yield
    ray.shutdown()


def test_outcomes_are_those_of_other_engines(tmp_path):
    bad = [Task("no", "refuse"), Task("never", 1, ("a", "no")), Task("once", ("die", tmp_path / "once", 1))]
    found = values(over_ray(doubled, graph(*bad), 10, 2))
    assert found.pop("no").words == "this cannot be done"
    assert found.pop("never").words == "no failed: this cannot be done"
    assert found.pop("once") == 100  # its worker died, and it was tried once more
    assert found == EXPECTED


def test_cells_are_the_same_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("efface.comparing.results.pictures", lambda *_: [])  # the cells count here
    plan = Plan.model_validate(PLAN)
    here = compare(plan, out=tmp_path / "here", device="cpu")
    there = compare(plan, out=tmp_path / "there", engine="ray", workers=2, device="cpu")
    # How long retraining for as long is depends on the time that was measured, and so does what it gives.
    timed = ["seconds", "train_seconds", "peak_memory", *COLUMNS, WHY]
    frames = [r.frame.drop(columns=[c for c in timed if c in r.frame]) for r in (here, there)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert here.frame.refused.ne("").sum() == 2
    long = [r.scores.drop(columns=[c for c in timed if c in r.scores]) for r in (here, there)]
    pd.testing.assert_frame_equal(*long, check_exact=True)
    for one, other in zip(here.kept, there.kept, strict=True):
        assert (one.get("per_class"), one.get("course")) == (other.get("per_class"), other.get("course"))
    assert compare(plan, out=tmp_path / "there", engine="ray", device="cpu").reused == 8


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("sisa", {"shards": 3, "slices": 2}),
        ("arcane", {"score": "autoencoder", "size": 8, "blocks": 2, "epochs": 2.0}),
        ("arcane", {"score": "svdd", "size": 8, "blocks": 2, "epochs": 2.0}),
    ],
)
def test_members_trained_apart_are_the_same_bit_for_bit(method: str, settings: dict[str, Any]) -> None:
    """In training and in a deletion that touches several of them; checkpoints and history, too."""
    data, recipe = efface.load_data("digits"), efface.Recipe(lr=0.1, epochs=2, batch_size=64)
    request = efface.Request(items=[3, 40, 500, 1001])
    made: list[list[efface.Artifact]] = []
    for where in ("serial", "ray"):
        how: dict[str, Any] = {"device": "cpu", "backend": where, "workers": 2}
        trained = efface.train("mlp", data, method=method, settings=settings, recipe=recipe, **how)
        made.append([trained, efface.forget(trained, data, request, method=method, **how)])
    for one, other in zip(*made, strict=True):
        assert one.record.weights_after == other.record.weights_after
        assert one.memory.keys() == other.memory.keys()
        assert all(torch.equal(value, other.memory[name]) for name, value in one.memory.items())
        assert without_times(one) == without_times(other)
        assert any("side by side over Ray" in note for note in other.record.notes)


def without_times(made: efface.Artifact) -> list[dict[str, Any]]:
    """Return an artifact's history without what the clock says."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in made.record.history]


def test_an_error_in_a_member_is_raised_here() -> None:
    recipe = efface.Recipe(lr=1e30, epochs=2, batch_size=64)
    with pytest.raises(efface.InputError, match="loss is not finite"):
        efface.train("mlp", efface.load_data("digits"), method="sisa", recipe=recipe, device="cpu", backend="ray")
