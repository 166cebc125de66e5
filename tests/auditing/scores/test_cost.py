import pytest
import torch

from efface.artifact.case import Case
from efface.auditing.rows import Row
from efface.auditing.scores.cost import cost_scores, speedup
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
