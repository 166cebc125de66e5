"""The columns of a comparison against what they say, on planted data and on digits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from efface.artifact.case import given
from efface.auditing.scores.score import Score, Scores
from efface.auditing.settings import AuditSettings
from efface.comparing.columns import COLUMNS, columns_of, measure
from efface.data import ArraySamples, Data, Split, load
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe
from efface.verbs.audit import audit


def planted() -> Data:
    """Three classes at unit vectors in training; in the test set classes 0 and 1 have changed places."""
    generator = torch.Generator().manual_seed(0)

    def samples(place: list[int], each: int) -> ArraySamples:
        labels = np.repeat(np.arange(3), each)
        noise = 0.1 * torch.randn(3 * each, 3, generator=generator)
        return ArraySamples(torch.eye(3)[torch.tensor(place)[labels]] + noise, labels)

    return Data("planted", samples([0, 1, 2], 40), samples([1, 0, 2], 10), tuple("abc"))


def nearest() -> nn.Module:
    """Answer with the unit vector that is nearest; the features are the inputs."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(5 * torch.eye(3))
    return model


def values(scores: Scores) -> dict[str, float | None]:
    return {name: score.value for name, score in scores.items() if score.measured}


def scores(split: Split, *measures: str) -> dict[str, float | None]:
    return values(measure(nearest(), nearest(), split, Run(device="cpu"), measures).scores)


def test_accuracies_of_a_class_request_are_on_test_records_and_the_others_on_training_records() -> None:
    found = scores(Split.of(planted(), Request(classes=(0,))), "accuracy")
    # Unseen records: class 2 right, class 1 wrong; class 0 never. Training records: all right.
    assert found == {"A_R": 50, "E_F": 100, "RA": 100, "FA": 100}
    assert scores(Split.of(planted(), Request(classes=(2,))), "accuracy") == {"A_R": 0, "E_F": 0, "RA": 100, "FA": 100}


def test_accuracies_of_an_item_request_are_on_the_whole_test_set_and_the_items() -> None:
    found = scores(Split.of(planted(), Request(items=(0, 1, 2))), "accuracy")
    assert found == pytest.approx({"A_R": 100 / 3, "E_F": 0, "RA": 100, "FA": 100})


def test_the_probe_is_fitted_on_training_records_and_read_on_unseen_ones() -> None:
    """Fitted on the unseen records it would find all of them; read on the training records it would find all too."""
    assert scores(Split.of(planted(), Request(classes=(0,))), "probe") == {"probe": 0}
    assert scores(Split.of(planted(), Request(classes=(2,))), "probe") == {"probe": 100}
    assert scores(Split.of(planted(), Request(classes=(0, 2))), "probe") == {"probe": 50}
    assert scores(Split.of(planted(), Request(items=(0, 1))), "probe") == {}


def test_relearning_aims_five_points_below_the_original() -> None:
    """The samples to forget fit into one batch, so that relearning is plain full-batch Adam."""
    split = Split.of(load("digits"), Request(classes=(3,)))
    x, y = split.forget.tensors()
    assert len(y) <= 256

    def trained(part, seed):
        with seeded(seed):
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        return fit(model, part, Recipe(epochs=4, lr=0.05, batch_size=64), Run(device="cpu"), stage="train")

    def share(model):
        with torch.no_grad():
            return float((model(x).argmax(1) == y).double().mean())

    original, without = trained(split.train, 0), trained(split.retain, 1)
    again = copy.deepcopy(without)
    optimiser, steps = torch.optim.Adam(again.parameters(), lr=1e-3), 0
    while share(again) < share(original) - 0.05:
        optimiser.zero_grad()
        nn.functional.cross_entropy(again(x), y).backward()
        optimiser.step()
        steps += 1
    found = values(measure(without, original, split, Run(device="cpu"), ("relearning",)).scores)
    assert found == {"relearn": steps}
    assert steps > 10
    assert values(measure(original, original, split, Run(device="cpu"), ("relearning",)).scores) == {"relearn": 0}


def confused() -> nn.Module:
    """Answer class 1 where class 2 is, and right elsewhere."""
    model = nearest()
    with torch.no_grad():
        model[1].weight[1] += model[1].weight[2]
        model[1].weight[2] = 0
    return model


def test_training_accuracies_are_percentages_of_what_is_drawn() -> None:
    split = Split.of(planted(), Request(classes=(0,)))
    found = values(measure(confused(), nearest(), split, Run(device="cpu"), ("accuracy",)).scores)
    assert (found["RA"], found["FA"]) == (50, 100)
    other = Split.of(planted(), Request(classes=(2,)))
    assert values(measure(confused(), nearest(), other, Run(device="cpu"), ("accuracy",)).scores)["FA"] == 0
    few = []
    for seed in range(6):
        torch.manual_seed(0)
        twice = [
            measure(confused(), nearest(), split, Run(device="cpu", seed=seed), ("accuracy",), sampled=5)
            .scores["RA"]
            .value
            for _ in range(2)
        ]
        assert twice[0] == twice[1]
        few.append(twice[0])
    assert all(x % 20 == 0 for x in few)
    assert len(set(few)) > 1


@pytest.mark.parametrize(
    "request_", [Request(classes=(3,)), Request(items=tuple(range(0, 300, 3)))], ids=["class", "items"]
)
def test_each_column_is_what_an_audit_with_the_same_seed_says(request_: Request) -> None:
    """Also where samples are drawn."""
    data = load("digits")
    split = Split.of(data, request_)
    with seeded(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    recipe = Recipe(epochs=3, lr=0.05, batch_size=64)
    original = fit(network, split.train, recipe, Run(device="cpu"), stage="train")
    forgotten = fit(copy.deepcopy(original), split.retain, recipe.but(epochs=1), Run(device="cpu"), stage="tune")
    run = Run(seed=recipe.seed + 1, device="cpu")
    before = given(original, split, recipe, run)
    settings = AuditSettings(retain_samples=200, resamples=100)
    row = audit(forgotten, data, request_, original=before, settings=settings, device="cpu").row("candidate")
    found = measure(forgotten, original, split, run, ("accuracy", "probe", "relearning"), sampled=200).scores
    by_class = bool(request_.classes)
    assert found.keys() == {c.name for c in COLUMNS if by_class or c.items}
    for column in COLUMNS:
        if column.name in found:
            said = row[column.classes if by_class else column.items].value
            expected = said if not column.percent else 100 - 100 * said if column.complement else 100 * said
            assert found[column.name].value == pytest.approx(expected), column.name


def test_a_complement_turns_intervals_and_gaps_round() -> None:
    share = Score(
        value=0.25, low=0.2, high=0.4, floor=0.1, floor_low=0.0, floor_high=0.3, gap=0.15, gap_low=0.1, gap_high=0.2
    )
    turned = columns_of({"test_forget_accuracy": share}, by_class=True)["E_F"]
    assert (turned.value, turned.low, turned.high) == (75, 60, 80)
    assert (turned.floor, turned.floor_low, turned.floor_high) == (90, 70, 100)
    assert (turned.gap, turned.gap_low, turned.gap_high) == (-15, -20, -10)
    assert turned.bound == ""
    least = Score(value=0.25, bound="at least")
    assert columns_of({"test_forget_accuracy": least}, by_class=True)["E_F"].bound == "at most"
    assert columns_of({"retain_accuracy": least}, by_class=True)["RA"].bound == "at least"
