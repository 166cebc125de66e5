"""Accuracies and aggregates from answers written down by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efface.auditing.measures.intervals import paired_gap, wilson
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, scored, with_gap
from efface.auditing.scores.utility import utility_scores
from tests.auditing.scores.tiny import answers, records

TRAIN, TEST = [0] * 4 + [1] * 4 + [2] * 5, [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def said(labels: Tensor, right: int, instead: int = 0, second: int | None = None) -> Tensor:
    """Logits that answer the first `right` labels, and `instead` for the others, whose next choice is their label."""
    logits = torch.zeros(len(labels), 3)
    logits[torch.arange(len(labels)), labels] = 1.0
    wrong = torch.arange(len(labels)) >= right
    logits[wrong, instead] = 2.0
    if second is not None:
        logits[wrong, second] = 1.5
    return logits


@pytest.fixture(scope="module")
def drawn():
    return records(TRAIN, TEST, classes=[2])


def made(drawn, retain, forget, test_retain, test_forget, instead=2, second=None):
    counts = {"retain": retain, "forget": forget, "test_retain": test_retain, "test_forget": test_forget}
    logits = {}
    for part, right in counts.items():
        other = instead if part in ("retain", "test_retain") else 0
        labels = drawn.parts[part].labels
        logits[part] = said(labels, right, other, second if part == "test_retain" else None)
    return answers(drawn, **logits)


def test_accuracies_by_part_with_gaps_on_the_same_records(drawn):
    ours, theirs = made(drawn, 6, 2, 5, 1), made(drawn, 8, 0, 7, 0)
    found = utility_scores(ours, theirs, ours)
    confidence = drawn.simultaneous_confidence
    for key, part, right, size in (
        ("retain_accuracy", "retain", 6, 8),
        ("forget_accuracy", "forget", 2, 5),
        ("test_accuracy", "test_retain", 5, 8),
        ("test_forget_accuracy", "test_forget", 1, 4),
    ):
        gap = paired_gap(ours.correct(part), theirs.correct(part), confidence)
        assert found[key] == with_gap(scored(wilson(right, size)), gap), key
        assert utility_scores(ours, None, ours)[key] == scored(wilson(right, size)), key


def test_masking_forgotten_classes_gives_back_what_they_took(drawn):
    # Wrong answers name class 2. Without it all come right; but not those of class 1 where class 0 comes next.
    ours, theirs = made(drawn, 8, 0, 2, 0), made(drawn, 8, 0, 4, 0, second=0)
    found = utility_scores(ours, theirs, ours)["test_accuracy_masked"]
    hits = torch.ones(8).bool()
    assert found.value == 1
    other = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]).bool()
    assert found == with_gap(scored(wilson(8, 8)), paired_gap(hits, other, drawn.simultaneous_confidence))
    assert utility_scores(ours, None, ours)["test_accuracy_masked"] == scored(wilson(8, 8))


def test_aggregates_by_hand(drawn):
    ours, theirs, original = made(drawn, 6, 2, 5, 1), made(drawn, 8, 0, 7, 0), made(drawn, 8, 5, 8, 4)
    found = utility_scores(ours, theirs, original)
    assert found["tow"].value == pytest.approx((1 - 2 / 5) * (1 - 2 / 8) * (1 - 2 / 8))
    assert found["aus"].value == pytest.approx((1 - (8 / 8 - 5 / 8)) / (1 + 2 / 5))
    kept, lost = 5 / 8, 4 / 4 - 1 / 4
    assert found["lsfm"].value == pytest.approx(2 * kept * lost / (kept + lost))
    assert utility_scores(original, None, original)["lsfm"].value == 0  # it has forgotten nothing
    assert utility_scores(ours, None, original)["tow"].why == NO_REFERENCE
    assert utility_scores(theirs, theirs, original)["tow"].why == ITS_OWN


def test_items_have_no_class_to_mask_and_are_to_look_like_unseen_ones():
    drawn = records(TRAIN, TEST, items=[0, 5, 12])
    ours = answers(drawn, forget=said(drawn.parts["forget"].labels, 1, 1))
    found = utility_scores(ours, None, ours)
    assert found["test_forget_accuracy"].why == "the request names no class"
    assert found["test_accuracy_masked"].why == "the request names no class"
    assert found["lsfm"].why == "the request names no class"
    forget, test = ours.accuracy("forget"), ours.accuracy("test_retain")
    assert forget != test
    assert found["aus"].value == pytest.approx(1 / (1 + abs(test - forget)))


def test_parts_without_records_are_said():
    nothing_kept = records(TRAIN, [2, 2], classes=[2])
    found = utility_scores(answers(nothing_kept), None, answers(nothing_kept))
    assert found["test_accuracy"].why == "no test_retain records"
    assert found["test_accuracy_masked"].why == "the test data has no record of a kept class"
    assert found["lsfm"].why == "no test_retain records"
    nothing_gone = records(TRAIN, [0, 1, 1], classes=[2])
    found = utility_scores(answers(nothing_gone), None, answers(nothing_gone))
    assert found["test_forget_accuracy"].why == found["lsfm"].why == "no test_forget records"
    assert found["test_accuracy"].measured
