"""A model that is no yardstick is not measured with, and one that nothing was done to has not forgotten."""

import copy

import pytest
import torch

from efface.auditing.answers import AllAnswers
from efface.auditing.records import Records
from efface.auditing.settings import AuditSettings
from efface.auditing.yardstick import unchanged, unfit
from efface.running.run import Run
from tests.world import RECIPE, assessed, rows_of, trained

QUICK = AuditSettings(relearn_cap=0, resamples=100)


def _answers(world, **models):
    records = Records.drawn(world.split, QUICK, Run())
    rows = rows_of({"original": world.models["original"], **models}, candidate="x")
    return AllAnswers.of(rows, records), records


def test_a_reference_trained_in_another_way_is_said_to_be(world):
    weak = trained(world.split.retain, 3, RECIPE.but(epochs=1, lr=0.01))
    found = assessed(
        {"original": world.models["original"], "retrained": weak, "x": world.models["retrained"]},
        world.split,
        Run(),
        candidate="x",
        settings=QUICK,
    )
    shares = [100 * found.row(n)["retain_accuracy"].value for n in ("retrained", "original")]
    assert shares[0] < shares[1] - 10
    said = f"trained ({shares[0]:.1f} against {shares[1]:.1f} % of kept training records)"
    assert f"Not assessed: the recipe is not how the original was {said}; give recipe=" in found.verdict.headline
    assert (found.verdict.outcome, found.verdict.answer) == ("not assessed", "could not tell")
    assert {c.outcome for c in found.verdict.checks} == {"not assessed"}


def test_the_best_of_several_references_decides(world):
    weak = trained(world.split.retain, 3, RECIPE.but(epochs=1, lr=0.01))
    answers, records = _answers(world, retrained=weak, x=world.models["retrained"])
    assert "recipe" in unfit(answers, records)
    answers, records = _answers(world, retrained=world.models["retrained"], x=weak)
    assert unfit(answers, records) == ""


def test_a_reference_that_knows_the_data_is_named(world):
    moved = copy.deepcopy(world.models["original"])
    with torch.no_grad():
        moved[1].weight[0, 0] += 1e-7  # another hash, the same answers
    answers, records = _answers(world, retrained=moved, x=world.models["retrained"])
    assert "'retrained' answers the forget data as the original does" in unfit(answers, records)
    saw = trained(world.split.train, 9)
    answers, records = _answers(world, retrained=saw, x=world.models["retrained"])
    assert "with the class that it should never have seen" in unfit(answers, records)


@pytest.mark.parametrize("change", ["none", "weight", "function"])
def test_unchanged_means_the_weights_and_the_answers(world, change):
    model = copy.deepcopy(world.models["original"])
    if change == "weight":
        with torch.no_grad():
            model[1].bias[0] += 1e-6
    elif change == "function":
        model.forward = lambda x: torch.nn.Sequential.forward(model, x).roll(1, 1)
    answers, _ = _answers(world, x=model)
    assert unchanged(answers.candidate, answers.original) == (change == "none")


def test_an_unchanged_candidate_is_said_to_be(world):
    model = copy.deepcopy(world.models["original"])
    models = {"original": world.models["original"], "ssd": model}
    for rows in (models, {**models, "retrained": world.models["retrained"]}):
        found = assessed(rows, world.split, Run(), candidate="ssd", settings=QUICK).verdict
        assert (found.outcome, found.answer) == ("nothing was done", "no")
        assert "the weights of 'ssd' are the original's" in found.headline
