"""Scores as text."""

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
