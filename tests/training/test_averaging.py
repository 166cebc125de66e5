"""The moving average of the weights against its formula, and BatchNorm's statistics against a plain pass."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from efface.data.epoch import Epoch
from efface.models.batch_norm import recompute_statistics
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe
from efface.training.side_by_side import fit_together
from tests.training.test_loop import network, same, task


def test_the_average_is_the_formulas_and_the_statistics_are_those_of_a_pass() -> None:
    part, seen = task(64), list[list[torch.Tensor]]()
    recipe = Recipe(lr=0.1, epochs=3, batch_size=16, schedule="cosine", average=0.2)
    keep = lambda m: seen.append([p.detach().clone() for p in m.parameters()])  # noqa: E731
    made = fit(network(), part, recipe, Run(device="cpu"), on_step=keep)
    decay = math.exp(-1 / (0.2 * 12))
    expected = seen[0]
    for weights in seen[1:]:
        expected = [decay * m + (1 - decay) * w for m, w in zip(expected, weights, strict=True)]
    for own, mean in zip(made.parameters(), expected, strict=True):
        torch.testing.assert_close(own.detach(), mean, rtol=1e-5, atol=1e-6)  # rounding of twelve steps
    again = copy.deepcopy(made)
    order = Run(device="cpu").generator("train/statistics of the average")
    recompute_statistics(again, part.batches(Epoch(16, generator=order)))
    assert same(again, made)
    plain = fit(network(), part, recipe.but(average=0), Run(device="cpu"))
    assert not torch.equal(plain[2].running_mean, made[2].running_mean)


def test_frozen_statistics_stay_frozen() -> None:
    recipe = Recipe(lr=0.1, epochs=2, batch_size=16, schedule="cosine", average=0.2)
    made = fit(network(), task(64), recipe, Run(device="cpu"), freeze_batch_norm=True)
    assert torch.equal(made[2].running_mean, network()[2].running_mean)


def test_side_by_side_averages_and_decays_as_one_by_one() -> None:
    part = task(64)
    recipe = Recipe(
        lr=0.1, epochs=2, batch_size=16, schedule="one-cycle", average=0.2, decay_vectors=False, weight_decay=0.1
    )
    runs = [Run(seed=s, device="cpu") for s in (1, 2)]
    alone = [fit(network(), part, recipe, run) for run in runs]
    together: list[nn.Module] = [network(), network()]
    fit_together(together, part, recipe, [Run(seed=s, device="cpu") for s in (1, 2)])
    for one, other in zip(alone, together, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(("change", "left"), [({"schedule": "constant"}, 0), ({"lr": 1}, 0.2), ({"average": 0.3}, 0.3)])
def test_the_average_goes_with_the_schedule(change: dict[str, object], left: float) -> None:
    assert Recipe(schedule="cosine", average=0.2).but(**change).average == left
    assert Recipe(schedule="cosine", average=0.2).bare().average == 0
