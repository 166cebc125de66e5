"""A training that is stopped anywhere goes on and ends with the bits of one that was not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from efface.data import Augment
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training import checkpoint
from efface.training.loop import fit
from efface.training.recipe import Recipe
from tests.training.test_loop import network, same, task


class StoppedError(Exception):
    """What ends a training early."""


def stopping(after: int) -> Callable[[nn.Module], None]:
    """Return a hook that stops the training after so many steps."""
    steps = 0

    def hook(_: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            raise StoppedError

    return hook


RECIPE = Recipe(
    lr=0.1,
    epochs=5,
    batch_size=16,
    schedule="one-cycle",
    average=0.1,
    augment=Augment(crop=1, flip=True),
    nesterov=True,
)


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.but(optimiser="adam", schedule="cosine", lr=0.01)])
@pytest.mark.parametrize("after", [8, 14])
def test_a_stopped_training_goes_on_bit_for_bit(
    recipe: Recipe, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    part = task(70, (1, 2, 3))
    whole, alone = Run(seed=2, device="cpu"), Run(seed=2, device="cpu", checkpoints=tmp_path)
    expected = fit(network(nn.Dropout(0.2)), part, recipe, whole)
    with pytest.raises(StoppedError):
        fit(network(nn.Dropout(0.2)), part, recipe, alone, on_step=stopping(after))
    assert len(list(tmp_path.iterdir())) == 1
    again = Run(seed=2, device="cpu", checkpoints=tmp_path)
    made = fit(network(nn.Dropout(0.2)), part, recipe, again, on_step=stopping(25 - after + 5 + 1))
    assert same(made, expected)
    assert "went on at step" in again.notes[0]
    assert [row["loss"] for row in again.history.rows] == [row["loss"] for row in whole.history.rows]
    assert not list(tmp_path.iterdir())


def test_within_an_epoch_and_with_weights_whose_channels_lie_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    part, recipe = task(132, (1, 2, 3)), Recipe(lr=0.05, epochs=2, batch_size=2)  # 66 steps, kept after 50
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, (1, 2)), nn.Flatten(), nn.Linear(4, 3))
    model.to(memory_format=torch.channels_last)
    expected = fit(copy.deepcopy(model), part, recipe, Run(device="cpu"))
    with pytest.raises(StoppedError):
        fit(copy.deepcopy(model), part, recipe, Run(device="cpu", checkpoints=tmp_path), on_step=stopping(60))
    made = fit(model, part, recipe, Run(device="cpu", checkpoints=tmp_path), on_step=stopping(83))
    assert same(made, expected)


def test_another_training_never_takes_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    recipe, part = RECIPE.but(augment={}), task()
    run = Run(seed=2, device="cpu", checkpoints=tmp_path)
    with pytest.raises(StoppedError):
        fit(network(), part, recipe, run, on_step=stopping(8))
    (left,) = tmp_path.iterdir()
    # Same length, same weights: only other samples, another recipe, seed or purpose, or a layer without weights.
    for other, how, seed, purpose, layers in (
        (part.take(range(69, -1, -1)), recipe, 2, "", ()),
        (part, recipe.but(lr=0.2), 2, "", ()),
        (part, recipe, 3, "", ()),
        (part, recipe, 2, "a method", ()),
        (part, recipe, 2, "", (nn.Tanh(),)),
    ):
        with_it, without = Run(seed=seed, device="cpu", checkpoints=tmp_path), Run(seed=seed, device="cpu")
        with_it.purpose = purpose
        assert same(fit(network(*layers), other, how, with_it), fit(network(*layers), other, how, without))
        assert not with_it.notes
    assert left.is_file()


def test_a_damaged_file_is_said_and_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    recipe, part = RECIPE.but(augment={}), task()
    with pytest.raises(StoppedError):
        fit(network(), part, recipe, Run(device="cpu", checkpoints=tmp_path), on_step=stopping(8))
    (left,) = tmp_path.iterdir()
    left.write_bytes(left.read_bytes()[:100])
    run = Run(device="cpu", checkpoints=tmp_path)
    assert same(fit(network(), part, recipe, run), fit(network(), part, recipe, Run(device="cpu")))
    assert "cannot be read" in run.notes[0]
