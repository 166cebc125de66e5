"""The arrays that a report draws and the records that it lists, from answers made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from efface.auditing import plots as module
from efface.auditing.exposed import most_exposed
from efface.auditing.measures.exposure import deviations
from efface.auditing.plots import BINS, MOST_CLASSES, course, cut, margin_histograms, most_changed, plots

PARTS = {"forget": [1, 1], "test_retain": [0, 0, 2], "test_forget": [1], "held_out": [1]}


def answering(name, *, empty=(), **answered):
    """A model of three classes that answers each part with these classes."""
    labels = {p: torch.tensor([] if p in empty else v, dtype=torch.int64) for p, v in PARTS.items()}
    said = {p: answered.get(p, v) for p, v in PARTS.items()}
    logits = {p: F.one_hot(torch.tensor(v), 3).float()[: len(labels[p])] for p, v in said.items()}
    margins = {"forget": torch.tensor([-1.0, 1.0]), "held_out": torch.tensor([2.0])}
    return SimpleNamespace(name=name, labels=labels, logits=logits, margin=margins.__getitem__)


def test_accuracies_confusions_and_answers_of_each_row():
    first = answering("first", test_retain=[0, 1, 2], test_forget=[0], forget=[0, 2])
    course = SimpleNamespace(course=SimpleNamespace(accuracies=(0.1, 0.9)))
    history = [{"stage": "decay", "step": 1}]
    found = plots([first, answering("right")], {"first": course, "right": SimpleNamespace(course=None)}, history)
    assert found.per_class["first"] == (0.5, 0.0, 1.0)
    assert found.per_class["right"] == (1.0, 1.0, 1.0)
    assert found.per_class_counts == (2, 1, 1)
    assert found.confusion["first"] == ((1, 1, 0), (1, 0, 0), (0, 0, 1))
    assert found.forget_answers == {"first": (1, 0, 1), "right": (0, 2, 0)}
    assert [(h.row, h.part, sum(h.counts)) for h in found.margins] == [
        ("first", "forget", 2), ("first", "held out", 1), ("right", "forget", 2), ("right", "held out", 1),
    ]  # fmt: skip
    assert found.relearning == {"first": (0.1, 0.9)}
    assert found.history == ({"stage": "decay", "step": 1},)
    without = plots([answering("x", empty=("test_forget", "held_out"))], {}, [])
    assert without.per_class_counts == (2, 0, 1)
    assert without.per_class["x"] == (1.0, None, 1.0)  # of a class without records nothing is known
    assert [(h.row, h.part) for h in without.margins] == [("x", "forget")]
    bare = plots([answering("x", empty=("test_retain", "test_forget", "held_out"))], {}, [])
    assert (bare.per_class, bare.confusion, bare.per_class_counts) == ({}, {}, ())


@pytest.mark.parametrize("most", [2, 3])
def test_of_many_classes_the_tables_hold_those_that_changed_most_between_two_rows(most, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "MOST_CLASSES", most)
    monkeypatch.setattr(module, "most_changed", lambda *given: asked.append(given) or (1, 2))
    first = answering("first", test_retain=[0, 1, 2], test_forget=[0], forget=[0, 2])
    models, options = [first, answering("right")], {"between": ("first", "right"), "forgotten": (1,)}
    found, whole = plots(models, {}, [], **options), plots(models, {}, [])
    assert (whole.confusion_classes, len(whole.confusion["first"])) == ((), 3)
    if most == 3:
        assert (found, asked) == (whole, [])
        return
    assert asked == [(found.per_class["first"], found.per_class["right"], (1,))]
    assert found.confusion_classes == (1, 2)
    for name, table in found.confusion.items():
        assert table == tuple(map(tuple, cut(torch.tensor(whole.confusion[name]), (1, 2)).tolist()))
    assert found.per_class == whole.per_class


def test_edges_leave_half_a_unit_around_all_but_the_outermost_margins():
    values = torch.arange(1001.0) / 10  # 0 to 100
    (found,) = margin_histograms({("a", "b"): values})
    assert (found.edges[0], found.edges[-1], len(found.edges)) == (pytest.approx(0.0), pytest.approx(100.0), BINS + 1)
    assert np.diff(found.edges) == pytest.approx(100 / BINS)
    assert sum(found.counts) == 1001
    assert found.counts[0] == 26  # 0 to 2.5, both ends included
    assert found.counts[1:-1] == (25,) * (BINS - 2)
    # What is infinite, or far beyond any margin, does not stretch the axis but is counted at its end.
    far = torch.tensor([torch.inf, -torch.inf, 1e4, -1000.0])
    first, second = margin_histograms({("a", "b"): values, ("c", "d"): far})
    assert first.edges == found.edges
    assert (second.counts[0], second.counts[-1], sum(second.counts)) == (2, 2, 4)
    assert margin_histograms({}) == margin_histograms({("a", "b"): far}) == ()


@pytest.mark.parametrize("named", [True, False])
def test_the_records_that_leak_most_are_listed_worst_first(named):
    mine = torch.tensor([0.0, 5.0, -9.0, 1.0], dtype=torch.float64)
    theirs = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ids = np.array([f"person {i}" for i in range(50)]) if named else None
    records = SimpleNamespace(
        parts={"forget": SimpleNamespace(indices=np.array([10, 20, 30, 40]))},
        split=SimpleNamespace(data=SimpleNamespace(ids=ids)),
    )
    candidate = SimpleNamespace(
        margin={"forget": mine}.__getitem__, records=records, labels={"forget": torch.tensor([7, 8, 9, 6])}
    )
    retrained = [SimpleNamespace(margin={"forget": row}.__getitem__) for row in theirs]
    score, expected, words = deviations(mine, theirs)
    found = most_exposed(candidate, retrained, 2)
    assert [(e.id, e.label, e.direction) for e in found] == [(30, 9, "over"), (20, 8, "left")]
    assert [e.name for e in found] == (["person 30", "person 20"] if named else ["", ""])
    for e, i in zip(found, (2, 1), strict=True):
        assert (e.score, e.margin, e.expected) == (float(score[i]), float(mine[i]), float(expected[i]))
        assert e.measure == words
    assert len(most_exposed(candidate, retrained, 99)) == 4
    assert most_exposed(candidate, retrained, 0) == most_exposed(candidate, [], 3) == ()


@given(st.integers(3, 40), st.data())
@settings(max_examples=50, deadline=None)
def test_a_cut_table_holds_its_classes_and_the_sums_of_all_others(k, data):
    chosen = sorted(data.draw(st.sets(st.integers(0, k - 1), min_size=1, max_size=k - 1)))
    table = torch.randint(0, 9, (k, k), generator=torch.Generator().manual_seed(k))
    found = cut(table, chosen)
    others = [c for c in range(k) if c not in chosen]
    assert found.sum() == table.sum()
    for i, c in enumerate(chosen):
        assert found[i, :-1].tolist() == [int(table[c, d]) for d in chosen]
        assert found[i, -1] == sum(int(table[c, d]) for d in others)
        assert found[-1, i] == sum(int(table[d, c]) for d in others)


def test_of_many_classes_the_forgotten_and_the_most_changed_are_shown_in_order():
    before = [0.5] * 200
    after = list(before)
    for c, share in {199: 0.6, 7: 0.0, 50: None, 120: 0.45}.items():
        after[c] = share
    shown = most_changed(before, after, forgotten=[3, 150])
    assert len(shown) == MOST_CLASSES
    assert list(shown) == sorted(shown)
    assert {3, 150, 199, 7, 50, 120} <= set(shown)
    assert most_changed(before[:MOST_CLASSES], after[:MOST_CLASSES], [3]) == tuple(range(MOST_CLASSES))
    assert set(most_changed(before, after, forgotten=range(30, 60))) <= set(range(30, 60))


def test_the_curve_of_decay_has_the_model_before_and_after():
    # The rows that the decay method writes.
    rows = [
        {"stage": "train", "epoch": 1, "loss": 0.5},
        {"stage": "decay/before", "batches": 0, "retain_accuracy": 0.95, "forget_accuracy": 0.9},
        {"stage": "decay", "step": 1, "batches": 0, "retain_accuracy": 0.94, "forget_accuracy": 0.5},
        {"stage": "decay", "step": 2, "batches": 0, "retain_accuracy": 0.93, "forget_accuracy": 0.1},
        {"stage": "decay/after", "batches": 352, "retain_accuracy": 0.96, "forget_accuracy": 0.2},
    ]
    at, lines = course(rows)
    assert at == [0, 1, 2, 3]
    assert lines == {"retain accuracy": [0.95, 0.94, 0.93, 0.96], "forget accuracy": [0.9, 0.5, 0.1, 0.2]}


@pytest.mark.parametrize(
    "rows",
    [
        [{"stage": "mnemonic/search", "retained_accuracy": 0.1 * i} for i in range(5)],
        [{"stage": "decay", "step": i, "forget_accuracy": 0.5} for i in range(2)],
        [{"stage": "fine-tune", "epoch": i, "loss": 0.5} for i in range(9)],
        [],
    ],
)
def test_what_is_no_curve_is_not_drawn(rows):
    assert course(rows) is None
