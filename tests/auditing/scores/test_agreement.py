"""Agreement with the retrained model, from logits written down by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from efface.auditing.measures.activation_distance import activation_distance
from efface.auditing.measures.intervals import wilson
from efface.auditing.measures.js_divergence import js_divergence
from efface.auditing.measures.zrf import zero_retrain_forgetting
from efface.auditing.scores.agreement import RandomModel, agreement_scores
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, mean_score, scored
from efface.models.reset import reset
from tests.auditing.scores.tiny import answers, records

NOTHING = RandomModel(None, "no new weights")


@pytest.fixture(scope="module")
def drawn():
    return records([0, 1, 2] * 6, [0, 1, 2, 2] * 2, classes=[2])


def test_each_comparison_is_of_its_own_part_and_formula(drawn):
    g = torch.Generator().manual_seed(0)
    ours = answers(drawn, forget=torch.randn(6, 3, generator=g), test_retain=torch.randn(4, 3, generator=g))
    theirs = answers(drawn, forget=torch.randn(6, 3, generator=g), test_retain=torch.randn(4, 3, generator=g))
    found = agreement_scores(ours, theirs, NOTHING, resamples=120)
    for key, part, compared in (
        ("forget_js", "forget", js_divergence),
        ("test_js", "test_retain", js_divergence),
        ("forget_activation_distance", "forget", activation_distance),
    ):
        values = compared(ours.logits[part], theirs.logits[part])
        assert found[key] == mean_score(values, drawn, key, 120)
        assert found[key].low < found[key].value < found[key].high
        assert agreement_scores(ours, theirs, NOTHING, resamples=0)[key].low is None
    for key, part in (("forget_agreement", "forget"), ("test_agreement", "test_retain")):
        same = ours.logits[part].argmax(1) == theirs.logits[part].argmax(1)
        assert found[key] == scored(wilson(float(same.sum()), len(same)))
    assert found["forget_agreement"].value != found["forget_js"].value != found["test_js"].value


def test_without_another_model_nothing_is_compared(drawn):
    ours = answers(drawn)
    for retrained, why in ((None, NO_REFERENCE), (ours, ITS_OWN)):
        found = agreement_scores(ours, retrained, NOTHING, resamples=0)
        assert {s.why for k, s in found.items() if k != "zrf"} == {why}
        assert found["zrf"].why == "no new weights"
    unseen = records([0, 1, 2] * 6, [2, 2], classes=[2])
    found = agreement_scores(answers(unseen), answers(unseen), NOTHING, resamples=0)
    assert {k for k, s in found.items() if s.why == "no test_retain records"} == {"test_js", "test_agreement"}
    assert found["forget_js"].value == 0
    assert found["forget_agreement"].value == 1


def test_zrf_compares_with_the_originals_network_under_new_weights(drawn):
    original = answers(drawn)
    random_model = RandomModel.of(original)
    assert random_model.missing == ""
    again = reset(original.model, drawn.run.number("audit/random twin"))
    with torch.no_grad():
        expected = again(drawn.parts["forget"].tensors()[0])
    assert torch.equal(random_model.logits, expected)
    ours = answers(drawn, matrix=torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    found = agreement_scores(ours, None, random_model, resamples=0)["zrf"]
    assert found.value == pytest.approx(zero_retrain_forgetting(ours.logits["forget"], expected))
    assert found.value != pytest.approx(agreement_scores(original, None, random_model, resamples=0)["zrf"].value)


def test_a_network_without_new_weights_says_so(drawn):
    class Fixed(nn.Module):
        """A parameter that nothing can draw anew."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    found = RandomModel.of(dataclasses.replace(answers(drawn), model=Fixed().eval()))
    assert found.logits is None
    assert found.missing
