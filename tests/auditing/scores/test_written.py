"""Scores as text."""

import pytest

from efface.auditing.catalogue import MEASURES
from efface.auditing.scores import written
from efface.auditing.scores.score import Score
from efface.words import SPACE as NBSP


def test_a_floor_is_cut_where_no_score_lies():
    # A prediction interval of few models reaches beyond [0, 1]; "104 %" of records is nonsense on a page.
    beyond = Score(value=0.9, floor=0.97, floor_low=-0.02, floor_high=1.04)
    assert written.floor(beyond, MEASURES["test_accuracy"]).replace(NBSP, " ") == "0.0 to 100.0 %"
    assert written.floor(Score(value=0.9), MEASURES["test_accuracy"]) == ""


def test_a_bound_is_marked_as_one():
    measure = MEASURES["relearn_steps"]
    assert written.value(Score(value=100, why="at least: the cap was reached"), measure) == f"≥{NBSP}100"
    assert written.value(Score(value=100, why="a sub-sample"), measure) == "100"
    share = MEASURES["test_accuracy"]
    assert written.value(Score(value=0.5, bound="at most"), share) == f"≤{NBSP}50.0{NBSP}%"
    assert written.value(Score(status="not assessed", bound="at least"), share) == "not assessed"


def test_a_floor_without_ends_is_its_value():
    assert written.floor(Score(value=0.9, floor=0.97), MEASURES["test_accuracy"]) == f"97.0{NBSP}%"
    assert written.floor(Score(value=0.9, floor=0.97, floor_low=0.9), MEASURES["test_accuracy"]) == f"97.0{NBSP}%"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("test_accuracy", "good: as a retrained model's"),
        ("speedup", "good: high"),
        ("seconds", "good: low"),
        ("lira_accuracy", "good: 50 % (chance)"),
        ("tow", f"good: 100.0{NBSP}%"),
        ("ain", "good: 1.00×"),
        ("forget_activation_distance", "good: 0"),
    ],
)
def test_which_way_is_good(key, said):
    assert written.good(MEASURES[key]) == said
