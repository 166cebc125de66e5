"""A model that is no yardstick is not measured with, and one that nothing was done to has not forgotten."""

import copy
import dataclasses
import math

import pytest
import torch

from efface.auditing.answers import AllAnswers
from efface.auditing.settings import AuditSettings
from efface.auditing.yardstick import unchanged, unfit
from efface.models.recorded import Recorded
from efface.running.run import Run
from tests.auditing.scores.tiny import answers, records
from tests.world import RECIPE, assessed, trained

QUICK = AuditSettings(relearn_cap=0, resamples=100, few_draws=2, probe_per_class=10)


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


def test_an_unchanged_candidate_is_said_to_be(world):
    model = copy.deepcopy(world.models["original"])
    models = {"original": world.models["original"], "ssd": model}
    for rows in (models, {**models, "retrained": world.models["retrained"]}):
        found = assessed(rows, world.split, Run(), candidate="ssd", settings=QUICK).verdict
        assert (found.outcome, found.answer) == ("nothing was done", "no")
        assert "the weights of 'ssd' are the original's" in found.headline


# --- by hand --------------------------------------------------------------------------------------------------------

TRAIN, TEST = [0] * 20 + [1] * 50 + [2] * 50, [0, 1, 2]


def right(labels, share):
    """Logits that give this share of the labels, and the next class for the others."""
    given = (labels + (torch.arange(len(labels)) >= round(share * len(labels)))) % 3
    return 4 * torch.nn.functional.one_hot(given, 3).float()


def answered(kept, name, forget, retain):
    """What a model answers that gets these shares right of the forget and the retain part."""
    labels = {part: kept.parts[part].labels for part in ("forget", "retain")}
    return answers(kept, name, forget=right(labels["forget"], forget), retain=right(labels["retain"], retain))


def why_not(*references, original=(1.0, 1.0), recorded=False, **request):
    """What is said against references of these shares, beside an original of those."""
    kept = records(TRAIN, TEST, **(request or {"classes": (0,)}))
    before, *others = (
        answered(kept, name, *shares)
        for name, shares in [("original", original), *((f"model {i}", s) for i, s in enumerate(references))]
    )
    if recorded:
        before = dataclasses.replace(before, model=Recorded(before.logits["forget"]))
    first, further = (others[0], others[1:]) if others else (None, ())
    return unfit(AllAnswers({}, before, before, first, further), kept)


def test_models_that_never_saw_the_class_and_know_the_rest_are_a_yardstick():
    assert why_not() == ""
    assert why_not((0.0, 1.0)) == ""
    assert why_not((0.0, 1.0), (0.0, 0.9)) == ""
    assert why_not((0.05, 1.0)) == ""  # of 20 records one, which chance may give


@pytest.mark.parametrize("place", [0, 1])
def test_one_that_knows_the_class_is_named(place):
    shares = [(0.0, 1.0), (0.0, 1.0)]
    shares[place] = (0.1, 1.0)
    assert why_not(*shares) == (
        f"not assessed: 'model {place}' answers 10.0% of the forget data with the class that it should never have "
        "seen; give a model trained without it"
    )
    assert why_not(*shares, items=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)) == ""  # single records of a class may be known


def test_one_that_answers_as_the_original_does_is_named():
    assert why_not((0.0, 1.0), (1.0, 0.9)) == (
        "not assessed: 'model 1' answers the forget data as the original does, to the last digit; "
        "it is no model that never saw it"
    )
    assert why_not((1.0, 1.0), recorded=True) == (
        "not assessed: 'model 0' answers the forget data as the original does, to the last digit; "
        "either it saw it, or answers as coarse as these cannot tell"
    )


@pytest.mark.parametrize(("difference", "same"), [(0.9e-4, True), (1.1e-4, False)])
def test_the_same_answers_are_the_same_up_to_rounding(difference, same):
    """One probability of one record differs by so much; items, since knowing the class is another reason."""
    kept = records(TRAIN, TEST, items=tuple(range(10)))
    before = answers(kept, "original", forget=torch.zeros(10, 3, dtype=torch.float64))
    # p of (z, 0, 0) is e^z / (e^z + 2), so that z = log(2 p / (1 - p)).
    p = 1 / 3 - difference
    moved = before.logits["forget"].clone()
    moved[4, 1] = math.log(2 * p / (1 - p))
    after = dataclasses.replace(before, name="anew", logits={**before.logits, "forget": moved})
    assert bool(unfit(AllAnswers({}, before, before, after), kept)) == same


@pytest.mark.parametrize(("best", "recipe"), [(0.81, False), (0.80, True)])
def test_the_best_of_several_references_decides(best, recipe):
    """Of 100 kept records two standard errors are sqrt(2 / 100) = 14.1 %, and 5 % the tolerance: 19.1 % in all."""
    for shares in ([(0.0, best)], [(0.0, 0.5), (0.0, best)], [(0.0, best), (0.0, 0.5)]):
        assert why_not(*shares) == (
            f"not assessed: the recipe is not how the original was trained ({100 * best:.1f} against 100.0 % of kept "
            "training records); give recipe=... or retrained=<your module>"
            if recipe
            else ""
        )
    said = why_not((0.0, best), recorded=True)
    assert said.endswith("records); give predictions of a model trained as it was" if recipe else "")
    assert why_not((0.0, best), original=(1.0, 0.9)) == ""


def test_without_kept_records_no_recipe_is_judged():
    kept = records(TRAIN, TEST, classes=(0,))
    before, after = answered(kept, "original", 1.0, 1.0), answered(kept, "anew", 0.0, 0.0)
    assert unfit(AllAnswers({}, before, before, after), kept)
    without = {**before.labels, "retain": before.labels["retain"][:0]}
    before, after = (dataclasses.replace(a, labels=without) for a in (before, after))
    assert unfit(AllAnswers({}, before, before, after), kept) == ""


@pytest.mark.parametrize("change", ["none", "weight", "name", "answers", "recorded"])
def test_unchanged_means_the_weights_and_the_answers(change):
    kept = records(TRAIN, TEST, classes=(0,))
    before, after = answers(kept, "original"), answers(kept, "after")
    if change == "weight":
        with torch.no_grad():
            after.model.weight[0, 0] += 1e-6
    elif change == "name":
        after = dataclasses.replace(after, model=torch.nn.Sequential(after.model))
    elif change == "answers":
        moved = after.logits["test_retain"].roll(1, 1)
        after = dataclasses.replace(after, logits={**after.logits, "test_retain": moved})
    elif change == "recorded":
        before, after = (dataclasses.replace(a, model=Recorded(torch.zeros(2, 3))) for a in (before, after))
    assert unchanged(after, before) is (change == "none")
