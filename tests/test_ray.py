"""Over Ray as here: the same outcomes and the same cells, in the plain suite, on one cluster that is started once.

Ray is imported outright: the extra `dev` brings it, and a skip would hide that nothing was compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import ray

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
