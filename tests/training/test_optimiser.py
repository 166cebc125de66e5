"""The one-cycle schedule against its formula, and weight decay that leaves vectors alone."""

from __future__ import annotations

import math

import pytest
import torch

from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import Trainer, fit
from efface.training.optimiser import optimiser_of, scheduler_of
from efface.training.recipe import Recipe
from tests.training.test_loop import network, task


@pytest.mark.parametrize("warm_up", [0.1, 0.25, 0.6])
def test_one_cycle_rises_and_falls_as_cosines(warm_up: float) -> None:
    recipe, total = Recipe(lr=0.4, schedule="one-cycle", warm_up=warm_up), 40
    optimiser = optimiser_of(list(network().parameters()), recipe)
    scheduler = scheduler_of(optimiser, recipe, total, 10)
    assert scheduler is not None
    top = warm_up * (total + 1) - 1
    for step in range(total + 1):
        if step <= top:
            low, high, share = 0.4 / 25, 0.4, step / top
        else:
            low, high, share = 0.4 / 25 / 1e4, 0.4, (total - step) / (total - top)
        expected = low + (high - low) * (1 - math.cos(math.pi * share)) / 2
        assert optimiser.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        optimiser.step()
        if step < total:
            scheduler.step()


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_without_gradients_only_what_decays_moves(kind: str) -> None:
    recipe = Recipe(optimiser=kind, lr=0.1, momentum=0, weight_decay=0.5, decay_vectors=False)
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = optimiser_of(list(model.parameters()), recipe)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    for old, new in zip(before, model.parameters(), strict=True):
        moved = not torch.equal(old, new)
        assert moved == (old.ndim > 1)
        if kind != "adam" and moved:
            torch.testing.assert_close(new.detach(), old * (1 - 0.1 * 0.5))


def test_steps_beyond_the_schedule_keep_its_last_rate() -> None:
    trainer = Trainer(
        network(), task(64), Recipe(lr=0.1, epochs=1, batch_size=16, schedule="one-cycle"), Run(device="cpu")
    )
    trainer.advance(6)
    assert trainer.step == 6
    assert 0 <= trainer._optimiser.param_groups[0]["lr"] < 1e-5


def test_channels_last_trains_the_same_network_up_to_rounding() -> None:
    part = task(64, (3, 4, 4))
    recipe = Recipe(lr=0.05, epochs=2, batch_size=16)

    def convolutional() -> torch.nn.Module:
        with seeded(0):
            layers = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.Flatten()
            return torch.nn.Sequential(*layers, torch.nn.Linear(32, 3))

    formats: list[bool] = []

    def loss(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        formats.append(x.is_contiguous(memory_format=torch.channels_last))
        return torch.nn.functional.cross_entropy(model(x), y)

    plain = fit(convolutional(), part, recipe, Run(device="cpu"), loss=loss)
    last = fit(convolutional(), part, recipe.but(channels_last=True), Run(device="cpu"), loss=loss)
    assert formats == [False] * 8 + [True] * 8
    for a, b in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # eight steps carry the rounding on
        assert b.is_contiguous()
