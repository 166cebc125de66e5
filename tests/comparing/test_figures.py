"""Figures of a comparison: which are drawn of what; how they look is tested with the report's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from efface.comparing import figures as module
from efface.comparing.figures import draw
from efface.comparing.plan import Plan

GRID = {"alpha": [1, 2], "dampening": [0.5, 1.0]}


@pytest.fixture
def drawn(monkeypatch):
    """What the drawing functions were called with; a file is its path."""
    calls = []
    monkeypatch.setattr(module, "time_bars", lambda seconds, *, reference: calls.append((seconds, reference)))
    monkeypatch.setattr(module, "heat_map", lambda *given, **named: calls.append((given, named)))
    monkeypatch.setattr(module, "save", lambda figure, path: path)
    return calls


def plan(*entries):
    given = {"name": "p", "data": {"source": "digits"}, "model": {"build": "mlp"}, "requests": [{"classes": [0]}]}
    return Plan.model_validate(given | {"methods": list(entries)})


def test_mean_times_are_drawn_from_the_quickest_beside_retraining(drawn, tmp_path):
    frame = pd.DataFrame(
        {"entry": ["original", "ssd", "ssd", "anew"], "seconds": [None, 3.0, 5.0, 1.0], "A_R": [1.0, 2.0, 3.0, 4.0]}
    )
    entries = [{"method": "original"}, {"method": "ssd"}, {"method": "retrain", "label": "anew"}]
    assert draw(plan(*entries), frame, tmp_path) == [tmp_path / "seconds.png"]
    ((seconds, reference),) = drawn
    assert list(seconds.items()) == [("anew", 1.0), ("ssd", 4.0)]
    assert reference == "anew"
    drawn.clear()
    assert draw(plan(*entries[:2]), frame[frame.entry != "anew"], tmp_path) == []  # one time is no comparison
    two = pd.DataFrame({"entry": ["ssd", "salun"], "seconds": [2.0, 1.0]})
    assert draw(plan({"method": "ssd"}, {"method": "salun"}), two, tmp_path) == [tmp_path / "seconds.png"]
    assert drawn == [({"salun": 1.0, "ssd": 2.0}, None)]


def test_a_grid_of_two_is_a_map_of_means_as_shares(drawn, tmp_path):
    cells = [
        {"entry": "my ssd (1)", "alpha": a, "dampening": d, "seconds": 1.0, "A_R": 10 * a + 20 * d + s, "E_F": 100.0}
        for a in GRID["alpha"]
        for d in GRID["dampening"]
        for s in (0, 2)
    ]
    frame = pd.DataFrame([*cells, {"entry": "other", "alpha": 1, "dampening": 0.5, "A_R": 0.0}])
    entry = {"method": "ssd", "label": "my ssd (1)", "grid": GRID}
    files = draw(plan(entry, {"method": "salun", "label": "other", "grid": {"lr": [0.1, 0.2]}}), frame, tmp_path)
    assert files == [tmp_path / "my-ssd--1-A_R.png", tmp_path / "my-ssd--1-E_F.png"]
    (values, across, down), named = drawn[0]
    np.testing.assert_allclose(values, [[0.21, 0.31], [0.31, 0.41]])
    assert (across, down) == ([0.5, 1.0], [1, 2])
    assert named == {"x_label": "dampening", "y_label": "alpha", "title": "Accuracy on kept classes"}
    assert drawn[1][1]["title"] == "Error on forgotten classes"
    np.testing.assert_allclose(drawn[1][0][0], 1)
    assert draw(plan(entry), frame.drop(columns="E_F"), tmp_path) == files[:1]
