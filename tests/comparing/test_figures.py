"""Figures of a comparison hold its numbers, and none is drawn of what was not measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from efface.comparing import figures as module
from efface.comparing.figures import MOST_CLASSES, draw, pictures
from efface.comparing.plan import Plan
from tests.comparing.conftest import CLASSES, METHODS, SEEDS, cell


def drawn(comparison):
    return {p.file: p for p in pictures(comparison.plan, comparison.frame, comparison.kept)}


def test_what_was_measured_is_drawn_and_nothing_else(make_comparison):
    comparison = make_comparison()
    assert list(drawn(comparison)) == ["usefulness", "passed", "seconds", "decay-steps", "classes-1", "classes-2"]
    comparison.kept = []
    comparison.frame = comparison.frame.drop(columns=["outcome", "level", "E_F"])
    assert list(drawn(comparison)) == ["seconds"]


def test_usefulness_has_means_and_the_published_place_where_both_figures_are_numbers(make_comparison):
    comparison = make_comparison()
    picture = drawn(comparison)["usefulness"]
    numbers = {name: (kept, error) for name, kept, error in picture.rows}
    assert list(numbers) == list(METHODS)
    decay = comparison.frame[comparison.frame.entry == "decay"]
    assert numbers["decay"] == (f"{decay.A_R.mean():.1f}\u00a0%", f"{decay.E_F.mean():.1f}\u00a0%")
    places = {
        (round(float(x), 6), round(float(y), 6))
        for line in picture.figure.axes[0].lines
        for x, y in [line.get_xydata()[0]]
    }
    assert (0.99, 0.915) in places
    assert len(places) == len(METHODS) + 1  # no ring for ssd, of which the plan has no numbers


@pytest.mark.seconds
def test_passed_counts_alike_only_and_leaves_level_a_out(make_comparison):
    comparison = make_comparison()
    by_name = {row[0]: row[1] for row in drawn(comparison)["passed"].rows}
    assert by_name == {m: f"{len(SEEDS)} of {2 * len(SEEDS)}" for m in METHODS[1:]}
    comparison.frame.loc[comparison.frame.entry == "ssd", "outcome"] = "not assessed"
    assert {row[0]: row[1] for row in drawn(comparison)["passed"].rows}["ssd"] == "0 of 4"
    comparison.frame["level"] = "a"
    assert "passed" not in drawn(comparison)


def test_steps_are_means_over_the_cells_that_come_so_far(make_comparison):
    comparison = make_comparison()
    first = next(c for c in comparison.kept if c["entry"] == "decay" and c["seed"] == 0)
    first["course"][1]["forget accuracy"][1] = 0.0
    rows = drawn(comparison)["decay-steps"].rows
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert rows[1][2] == "30.0\u00a0%"  # three cells at .4, one at 0
    assert rows[3][1] == "90.0\u00a0%"  # of seed 0 alone


def test_cells_that_were_watched_at_other_steps_are_averaged_where_they_were_watched(make_comparison):
    comparison = make_comparison()
    for kept in comparison.kept:
        if kept["entry"] == "decay" and kept["seed"] == 1:
            kept["course"] = [[0, 2, 4], {"retain accuracy": [0.9, 0.7, 0.5], "forget accuracy": [0.8, 0.3, None]}]
    picture = drawn(comparison)["decay-steps"]
    kept = {"0": (0.9, 0.8), "1": (0.9, 0.4), "2": (0.8, 0.2), "3": (0.9, 0.0), "4": (0.5, None)}
    said = {at: tuple("" if v is None else f"{100 * v:.1f}\u00a0%" for v in both) for at, both in kept.items()}
    assert {row[0]: row[1:] for row in picture.rows} == said
    assert picture.figure.axes[0].lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4]


def test_a_method_that_counts_its_steps_anew_goes_on_behind_them(make_comparison):
    comparison = make_comparison()
    for kept in comparison.kept:
        if kept["entry"] == "decay":
            kept["course"] = [[0, 1, 0, 1], {"forget accuracy": [0.8, 0.6, 0.4, 0.2]}]
    assert [row[:2] for row in drawn(comparison)["decay-steps"].rows] == [
        ("0", "80.0\u00a0%"), ("1", "60.0\u00a0%"), ("0", "40.0\u00a0%"), ("1", "20.0\u00a0%"),
    ]  # fmt: skip


def test_classes_are_drawn_for_each_request_with_the_forgotten_one_set_off(make_comparison):
    found = drawn(make_comparison())
    for number, name in ((1, "zero"), (2, "one")):
        picture = found[f"classes-{number}"]
        bold = [t.get_text() for t in picture.figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
        assert bold == [name]
        assert picture.head == ("Row", *CLASSES)
        assert {row[0]: row[1] for row in picture.rows}["ssd"] == "86.0\u00a0%"


def test_of_many_classes_the_forgotten_and_the_most_different_are_drawn(make_comparison):
    comparison = make_comparison()
    for row in comparison.kept:
        differ = 0.5 if row["entry"] == "ssd" else 0.9
        row["per_class"] = {f"c{i}": differ if i >= 80 else 0.9 for i in range(100)}
    axes = drawn(comparison)["classes-1"].figure.axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert len(labels) == MOST_CLASSES
    assert labels[0] == "c0"
    assert set(labels[1:]) <= {f"c{i}" for i in range(80, 100)}


def test_two_settings_give_maps_and_one_gives_rows_of_their_own(make_comparison):
    grid = {"lambda_1": [0.1, 1.0], "lambda_2": [1.0, 2.0, 3.0]}
    methods = [
        {"method": "original"},
        {"method": "mnemonic", "grid": grid},
        {"method": "ssd", "label": "one", "grid": {"alpha": [5, 10]}},
    ]
    rows = [
        cell(
            "mnemonic",
            0,
            0,
            settings={"lambda_1": a, "lambda_2": b},
            scores={"A_R": {"value": 10 * a + b}, "E_F": {"value": 50}},
        )
        for a in grid["lambda_1"]
        for b in grid["lambda_2"]
    ]
    rows += [cell("one", 0, 0, method="ssd", settings={"alpha": a}) for a in (5, 10)]
    found = drawn(make_comparison(rows, methods=methods, published={}))
    values = found["mnemonic-A_R"].figure.axes[0].collections[0].get_array()
    np.testing.assert_allclose(values, [[0.02, 0.03, 0.04], [0.11, 0.12, 0.13]])
    assert {"one, alpha 5", "one, alpha 10"} <= {row[0] for row in found["usefulness"].rows}
    assert not any("mnemonic" in row[0] for row in found["usefulness"].rows)


def test_files_of_labels_that_differ_in_signs_only_do_not_replace_each_other(make_comparison, tmp_path):
    grid = {"lambda_1": [0.1, 1.0], "lambda_2": [1.0, 2.0]}
    methods = [{"method": "mnemonic", "label": label, "grid": grid} for label in ("m/n", "m:n")]
    rows = [
        cell(label, 0, 0, method="mnemonic", settings={"lambda_1": a, "lambda_2": b})
        for label in ("m/n", "m:n")
        for a in grid["lambda_1"]
        for b in grid["lambda_2"]
    ]
    comparison = make_comparison(rows, methods=methods, published={})
    files = draw(pictures(comparison.plan, comparison.frame), tmp_path)
    assert len(set(files)) == len(files) == len(list(tmp_path.glob("*.png")))
    assert {"m-n-A_R.png", "m-n-A_R-2.png"} <= {f.name for f in files}


def test_rows_without_numbers_are_left_out(make_comparison):
    comparison = make_comparison()
    comparison.frame.loc[comparison.frame.entry == "ssd", ["A_R", "seconds"]] = pd.NA
    found = drawn(comparison)
    for file in ("usefulness", "seconds"):
        assert "ssd" not in {row[0] for row in found[file].rows}


@pytest.mark.parametrize("column", ["A_R", "E_F"])
def test_one_row_alone_is_no_figure(make_comparison, column):
    comparison = make_comparison()
    comparison.frame.loc[comparison.frame.entry != "ssd", column] = pd.NA
    assert "usefulness" not in drawn(comparison)


# --- what the drawing functions are given -----------------------------------------------------------------------------


GRID = {"alpha": [1, 2], "dampening": [0.5, 1.0]}


@pytest.fixture
def called(monkeypatch):
    """What the drawing functions were called with."""
    calls = []
    monkeypatch.setattr(module, "time_bars", lambda seconds, *, reference: calls.append((seconds, reference)))
    monkeypatch.setattr(module, "heat_map", lambda *given, **named: calls.append((given, named)))
    return calls


def files(plan, frame):
    return [p.file for p in pictures(plan, frame)]


def plan(*entries):
    given = {"name": "p", "data": {"source": "digits"}, "model": {"build": "mlp"}, "requests": [{"classes": [0]}]}
    return Plan.model_validate(given | {"methods": list(entries)})


def test_mean_times_are_drawn_from_the_quickest_beside_retraining(called):
    frame = pd.DataFrame(
        {"entry": ["original", "ssd", "ssd", "anew"], "seconds": [None, 3.0, 5.0, 1.0], "A_R": [1.0, 2.0, 3.0, 4.0]}
    )
    entries = [{"method": "original"}, {"method": "ssd"}, {"method": "retrain", "label": "anew"}]
    assert files(plan(*entries), frame) == ["seconds"]
    ((seconds, reference),) = called
    assert list(seconds.items()) == [("anew", 1.0), ("ssd", 4.0)]
    assert reference == "anew"
    called.clear()
    assert files(plan(*entries[:2]), frame[frame.entry != "anew"]) == []  # one time is no comparison
    two = pd.DataFrame({"entry": ["ssd", "salun"], "seconds": [2.0, 1.0]})
    assert files(plan({"method": "ssd"}, {"method": "salun"}), two) == ["seconds"]
    assert called == [({"salun": 1.0, "ssd": 2.0}, None)]


def test_a_grid_of_two_is_a_map_of_means_as_shares(called):
    cells = [
        {"entry": "my ssd (1)", "alpha": a, "dampening": d, "seconds": 1.0, "A_R": 10 * a + 20 * d + s, "E_F": 100.0}
        for a in GRID["alpha"]
        for d in GRID["dampening"]
        for s in (0, 2)
    ]
    frame = pd.DataFrame([*cells, {"entry": "other", "alpha": 1, "dampening": 0.5, "A_R": 0.0, "lr": 0.1}])
    entry = {"method": "ssd", "label": "my ssd (1)", "grid": GRID}
    found = files(plan(entry, {"method": "salun", "label": "other", "grid": {"lr": [0.1, 0.2]}}), frame)
    assert found == ["my-ssd--1-A_R", "my-ssd--1-E_F"]
    (values, across, down), named = called[0]
    np.testing.assert_allclose(values, [[0.21, 0.31], [0.31, 0.41]])
    assert (across, down) == ([0.5, 1.0], [1, 2])
    assert named == {"x_label": "dampening", "y_label": "alpha", "title": "Accuracy on kept classes"}
    assert called[1][1]["title"] == "Error on forgotten classes"
    np.testing.assert_allclose(called[1][0][0], 1)
    assert files(plan(entry), frame.drop(columns="E_F")) == found[:1]


@pytest.mark.parametrize(("values", "scale"), [((0.01, 0.1, 1.0), "log"), ((1.0, 2.0, 3.0), "linear")])
def test_a_sweep_of_one_setting_is_lines_through_its_means(values, scale, make_comparison):
    cells = [
        cell("swept", r, s, settings={"alpha": v}, scores={"A_R": {"value": 80 + 10 * v + s}, "E_F": {"value": 100.0}})
        for v in values
        for r in (1, 2)
        for s in SEEDS
    ]
    entry = {"method": "ssd", "label": "swept", "grid": {"alpha": list(values)}}
    picture = drawn(make_comparison(cells, methods=[{"method": "original"}, entry], published={}))["swept"]
    (axes,) = picture.figure.axes
    assert axes.get_xscale() == scale
    ticks = [t.get_text() for t in axes.get_xticklabels()]
    assert ticks == [f"{v:g}" for v in values] or (scale == "linear" and not any("$" in t for t in ticks))
    line = axes.lines[0]
    assert line.get_xdata().tolist() == list(values)
    assert np.allclose(line.get_ydata(), [(80.5 + 10 * v) / 100 for v in values])
    spread = np.std([80, 81, 80, 81], ddof=1)
    assert picture.rows[0][1] == f"{80.5 + 10 * values[0]:.1f}\u00a0% ± {spread:.1f}\u00a0%"


def test_a_sweep_of_words_is_left_to_the_table(make_comparison):
    cells = [cell("swept", 1, 0, settings={"order": v}) for v in ("ours", "published")]
    entry = {"method": "ssd", "label": "swept", "grid": {"order": ["ours", "published"]}}
    assert "swept" not in drawn(make_comparison(cells, methods=[{"method": "original"}, entry], published={}))
