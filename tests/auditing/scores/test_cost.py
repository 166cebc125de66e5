from types import SimpleNamespace

import pytest
import torch
from torch import nn

from efface.artifact.case import Case
from efface.artifact.record import Spent
from efface.auditing.rows import Row
from efface.auditing.scores.cost import cost_scores, speedup
from efface.auditing.scores.score import Score
from efface.data import load
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.request import Request
from efface.training.recipe import Recipe
from tests.world import network


def test_speedup_is_a_ratio_of_times():
    assert speedup(2.0, 10.0) == 5
    assert speedup(10.0, 2.0) == 0.2


@pytest.mark.parametrize("times", [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])
def test_impossible_times_are_refused(times):
    with pytest.raises(InputError, match="with a clock"):
        speedup(*times)


def test_samples_and_memory_come_from_the_record_and_are_missing_without_one():
    data = load("digits")
    case = Case.of(network(0), data, Request.of(classes=[3]), recipe=Recipe(epochs=1), device="cpu")
    made = apply(make("fine-tune"), case)
    row = Row("fine-tuned", "candidate", made.model, made.record.seconds["forget"], made.record)
    scores = cost_scores(row, None)
    assert scores["samples"].value == made.record.spent.samples["retain"] > 0
    assert "retain" in scores["samples"].why
    assert scores["peak_memory"].value == made.record.spent.peak_memory
    scores = cost_scores(Row("candidate", "candidate", torch.nn.Identity()), None)
    assert scores["samples"].value is None
    assert "no record" in scores["samples"].why


def row(seconds: float | None) -> Row:
    return Row("model", "other", nn.Identity(), seconds=seconds)


def times(*rows: Row | None) -> dict[str, Score]:
    return {k: v for k, v in cost_scores(*rows).items() if k in ("seconds", "speedup")}


def test_time_and_how_much_faster_than_retraining():
    assert times(row(4.0), row(10.0)) == {"seconds": Score(value=4.0), "speedup": Score(value=2.5)}


@pytest.mark.parametrize(
    ("seconds", "retraining", "why"),
    [
        (4.0, None, "no retraining time was given"),
        (4.0, row(None), "no retraining time was given"),
        (0.0, row(10.0), "no measurable time was taken"),
    ],
)
def test_without_both_times_there_is_no_ratio(seconds, retraining, why):
    assert times(row(seconds), retraining) == {"seconds": Score(value=seconds), "speedup": Score.missing(why)}


def test_a_model_of_which_no_time_is_known():
    missing = Score.missing("no time was given for this model")
    assert times(row(None), row(10.0)) == {"seconds": missing, "speedup": missing}
    assert speedup(4.0, 0.0) == 0


def test_what_was_spent_by_kind_where_the_system_tells_and_where_not():
    spent = Spent(samples={"forget": 3, "retain": 0, "test": 2}, peak_memory=None)
    scores = cost_scores(Row("model", "other", nn.Identity(), record=SimpleNamespace(spent=spent)), None)
    assert scores["samples"] == Score(value=5.0, why="forget 3, test 2")
    assert scores["peak_memory"] == Score.missing("the system that it was made on does not tell")
