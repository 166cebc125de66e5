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


def plan(*entries, **fields):
    given = {"name": "p", "data": {"source": "digits"}, "model": {"build": "mlp"}, "requests": [{"classes": [0]}]}
    return Plan.model_validate(given | {"methods": list(entries)} | fields)


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


# --- in words -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """What each drawing function was called with, by its name; nothing is drawn."""
    calls = {}

    def stub(name):
        return lambda *given, **named: calls.setdefault(name, []).append((given, named))

    for name in ("points", "time_bars", "curves", "heat_map", "class_panels"):
        monkeypatch.setattr(module, name, stub(name))
    return calls


ENTRIES = ({"method": "original"}, {"method": "retrain", "label": "anew"}, {"method": "ssd"}, {"method": "salun"})


def frame(**columns):
    return pd.DataFrame({"entry": ["original", "anew", "ssd", "salun"]} | columns)


def test_forgetting_against_usefulness_in_words(asked, monkeypatch):
    cells = frame(E_F=[0.0, 100.0, 50.0, 25.0], A_R=[90.0, 80.0, 70.0, None])
    given = plan(*ENTRIES).model_copy(update={"published": {"ssd": {"E_F": "40 %", "A_R": "60.5"}}})
    picture, *rest = pictures(given, cells.assign(seconds=None))
    assert rest == []
    assert (picture.file, picture.title, picture.head) == (
        "usefulness", "Forgetting against usefulness", ("Row", "A_R", "E_F"),
    )  # fmt: skip
    first = "Error on what is forgotten, and accuracy on what is kept, as means over seeds and requests."
    best = " The best place is that of anew (diamond), not a corner."
    assert picture.caption == f"{first}{best} Rings are published figures, with a dotted line to ours."
    assert picture.rows[2] == ("ssd", "70.0\u00a0%", "50.0\u00a0%")
    (((at,), named),) = asked["points"]
    assert at == {"original": (0.0, 0.9), "anew": (1.0, 0.8), "ssd": (0.5, 0.7)}
    assert named == {
        "x_label": "error on what is forgotten (E_F)",
        "y_label": "accuracy on what is kept (A_R)",
        "reference": "anew",
        "published": {"ssd": (0.4, 0.605)},
    }
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    assert pictures(given, cells.assign(seconds=None))[0].caption == f"{first}{best} Of 3 rows, the first 2 are drawn."
    others = pictures(plan(*ENTRIES[::2]), cells[::2].assign(seconds=None))[0]
    assert others.caption == first
    assert asked["points"][-1][1]["reference"] is None
    for said in ({"E_F": "40"}, {"A_R": "40"}, {"E_F": "", "A_R": "1"}, {"E_F": "half", "A_R": "1"}):
        assert module._published(given.model_copy(update={"published": {"ssd": said}}), "ssd") is None


def test_passed_audits_against_time_in_words(asked):
    cells = pd.concat([frame(level="b", seconds=[0.0, 20.0, 2.0, 4.0], outcome="alike")] * 2, ignore_index=True)
    cells.loc[6, "outcome"] = "differs"
    cells.loc[7, "level"] = "a"
    picture = next(p for p in pictures(plan(*ENTRIES), cells) if p.file == "passed")
    assert (picture.title, picture.head) == ("Passed audits against time", ("Row", "Audits passed", "Wall time"))
    assert picture.caption == (
        "Share of audits in which no question tells a model from one retrained without the data, and no usefulness is "
        "lost, against time. The line joins the rows that no other beats in both."
    )
    assert picture.rows == (
        ("anew", "2 of 2", "20\u00a0s"), ("ssd", "1 of 2", "2\u00a0s"), ("salun", "1 of 1", "4\u00a0s"),
    )  # fmt: skip
    (((at,), named),) = asked["points"]
    assert at == {"anew": (20.0, 1.0), "ssd": (2.0, 0.5), "salun": (4.0, 1.0)}
    assert named == {
        "x_label": "wall time of forgetting, logarithmic",
        "y_label": "audits passed",
        "reference": "anew",
        "seconds": True,
        "edge": module.front(at),
    }
    two = cells[cells.entry.isin(["ssd", "salun"])]
    assert [p.file for p in pictures(plan(*ENTRIES), two)] == ["passed", "seconds"]
    assert asked["points"][-1][1]["reference"] is None  # it is among the plan's, but has no cell
    one = cells[cells.entry.isin(["original", "ssd"])]
    assert [p.file for p in pictures(plan(*ENTRIES), one.assign(seconds=[0.0, 2.0] * 2))] == ["seconds"]


def test_times_in_words(asked):
    (picture,) = pictures(plan(*ENTRIES), frame(seconds=[None, 20.0, 2.0, 0.5]))
    assert (picture.title, picture.head) == ("Time", ("Row", "Wall time"))
    assert picture.caption == (
        "Wall time of forgetting, mean over cells; each mark on the axis is ten times the one before."
    )
    assert picture.rows == (("salun", "500\u00a0ms"), ("ssd", "2\u00a0s"), ("anew", "20\u00a0s"))


def test_one_setting_and_two_in_words(asked):
    entries = (
        {"method": "ssd", "label": "one/", "grid": {"alpha": [5, 10]}},
        {"method": "ssd", "label": "two", "grid": GRID},
    )
    cells = pd.DataFrame(
        [{"entry": "one/", "alpha": a, "dampening": None, "A_R": 80.0 + a + s} for a in (5, 10) for s in (0, 2)]
        + [{"entry": "two", "alpha": a, "dampening": d, "A_R": 10.0 * a} for a in (1, 2) for d in (0.5, 1.0)][1:]
    ).assign(seconds=None)
    sweep, heat = pictures(plan(*entries), cells)
    assert (sweep.file, sweep.title, sweep.head) == (
        "one", "Over alpha: one/", ("alpha", "Accuracy on kept classes"),
    )  # fmt: skip
    assert sweep.caption == "one/: mean over seeds and requests; a standard deviation on both sides is shaded."
    assert sweep.rows == (("5", "86.0\u00a0% ± 1.4\u00a0%"), ("10", "91.0\u00a0% ± 1.4\u00a0%"))
    (((values, means), named),) = asked["curves"]
    low, high = named.pop("bands")["Accuracy on kept classes"]
    assert values.tolist() == [5, 10]
    np.testing.assert_allclose(means["Accuracy on kept classes"], [0.86, 0.91])
    np.testing.assert_allclose(
        (low, high), [[0.86 - 0.02**0.5 / 10, 0.91 - 0.02**0.5 / 10], [0.86 + 0.02**0.5 / 10, 0.91 + 0.02**0.5 / 10]]
    )
    assert named == {"x_label": "alpha", "y_label": "share of records"}
    assert (heat.file, heat.title, heat.head) == (
        "two-A_R", "Accuracy on kept classes: two", ("alpha \\ dampening", "0.5", "1"),
    )  # fmt: skip
    assert heat.caption == "two: accuracy on kept classes over both settings, mean over seeds and requests."
    assert heat.rows == (("1", "-", "10.0\u00a0%"), ("2", "20.0\u00a0%", "20.0\u00a0%"))
    single = cells[(cells.entry == "one/") & (cells.alpha == 5)]
    assert pictures(plan(*entries[:1]), single) == []
    assert pictures(plan(*entries), cells.assign(A_R=None)) == []


def test_steps_in_words(asked):
    course = [[0, 1, 2], {"forget accuracy": [0.75, 0.5, 0.25]}]
    cells = [cell("ssd", 0, s, course=[course[0][: 3 - s], {"forget accuracy": [0.75 - s / 4, 0.5]}]) for s in (0, 1)]
    cells[0]["course"] = course
    found = pictures(plan({"method": "ssd"}), frame(seconds=None), cells)
    picture = next(p for p in found if p.file == "ssd-steps")
    assert (picture.title, picture.head) == ("Step by step: ssd", ("Step", "forget accuracy"))
    assert picture.caption == (
        "ssd: accuracy while forgetting went on, on the data that the method itself watches. Lines are means over 2 "
        "cells, of those that come so far; shades are their range."
    )
    assert picture.rows == (("0", "62.5\u00a0%"), ("1", "50.0\u00a0%"), ("2", "25.0\u00a0%"))
    (((steps, lines), named),) = asked["curves"]
    assert (steps, lines["forget accuracy"].tolist()) == ([0, 1, 2], [0.625, 0.5, 0.25])
    low, high = named.pop("bands")["forget accuracy"]
    assert (low.tolist(), high.tolist()) == ([0.5, 0.5, 0.25], [0.75, 0.5, 0.25])
    assert named == {"x_label": "step", "y_label": "accuracy"}


def test_classes_in_words(asked, monkeypatch):
    given = plan(*ENTRIES, requests=[{"classes": [1]}, {"items": [3, 4]}])
    words = given.asked()
    shares = {"original": (0.9, 0.8, 0.7), "anew": (0.8, 0.0, 0.7), "ssd": (0.4, 0.1, None)}
    cells = [
        cell(name, 0, s, per_class=dict(zip(CLASSES, values, strict=True)), course=None) | {"request": request}
        for request in words
        for name, values in shares.items()
        for s in (0, 1)
    ]
    first, second = pictures(given, frame(seconds=None), cells)
    assert (first.file, first.title, second.file, second.title) == (
        "classes-1", f"Accuracy by class: {words[0]}", "classes-2", f"Accuracy by class: {words[1]}",
    )  # fmt: skip
    assert first.caption == (
        "Test accuracy of each class, mean over seeds; forgotten classes in bold. Black ticks: anew."
    )
    assert second.caption == "Test accuracy of each class, mean over seeds. Black ticks: anew."
    assert first.head == ("Row", *CLASSES)
    assert first.rows[2] == ("ssd", "40.0\u00a0%", "10.0\u00a0%", "-")
    ((names, drawn, reference), named), ((_, _, _), other) = asked["class_panels"]
    assert names == list(CLASSES)
    assert list(drawn) == ["original", "anew", "ssd"]
    assert drawn["original"] == pytest.approx([0.9, 0.8, 0.7])
    assert reference == drawn["anew"]
    assert (named, other) == ({"marked": [1], "reference_name": "anew"}, {"marked": [], "reference_name": "anew"})
    monkeypatch.setattr(module, "MOST_CLASSES", 2)
    monkeypatch.setattr(module, "MOST_REQUESTS", 1)
    (alone,) = pictures(given, frame(seconds=None), [c for c in cells if c["entry"] != "anew"])
    assert alone.caption == (
        "Test accuracy of each class, mean over seeds; forgotten classes in bold. Of 3 classes, the 2 that are "
        "forgotten or differ most are drawn. Of 2 requests, the first 1 are drawn."
    )
    (names, _, reference), named = asked["class_panels"][-1]
    assert (names, reference, named) == (["zero", "one"], None, {"marked": [1], "reference_name": ""})
