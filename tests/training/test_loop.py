"""The training loop against a bare PyTorch one, bit for bit; schedules, hooks, partial epochs, and bad input."""

from __future__ import annotations

import copy
import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data import ArraySamples, Augment, Data, Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import Endless, Trainer, fit
from efface.training.recipe import Recipe


def task(n: int = 70, shape: tuple[int, ...] = (6,)) -> Part:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, *shape, generator=g)
    y = torch.randint(0, 3, (n,), generator=g)
    y[:3] = torch.arange(3)
    samples = ArraySamples(x, y)
    data = Data("task", samples, ArraySamples(x[:4], y[:4]), ("a", "b", "c"))
    return Split.of(data, validation=0).train


def network(*extra: nn.Module) -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), *extra, nn.Linear(8, 3))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def bare(model: nn.Module, part: Part, recipe: Recipe, run: Run) -> nn.Module:
    """Plain PyTorch, whole epochs, with the same order of the data."""
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimiser == "sgd":
        options |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    optimiser = kinds[recipe.optimiser](model.parameters(), **options)
    model.train()
    steps = math.ceil(len(part) / recipe.batch_size)
    total = steps * int(recipe.epochs)
    step = 0
    for epoch in range(int(recipe.epochs)):
        g = run.generator(f"train/epoch {epoch}")
        for x, y in part.batches(Epoch(recipe.batch_size, generator=g, augment=recipe.augment)):
            if recipe.schedule == "cosine":
                lr = recipe.lr * (1 + math.cos(math.pi * step / total)) / 2
            elif recipe.schedule == "step":
                lr = recipe.lr * recipe.gamma ** sum(step >= round(m * steps) for m in recipe.milestones)
            else:
                lr = recipe.lr
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.zero_grad()
            F.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing).backward()
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimiser.step()
            step += 1
    return model.eval()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.1, epochs=3, batch_size=16),
        Recipe(lr=0.1, epochs=2, batch_size=16, nesterov=True, label_smoothing=0.1, clip_norm=0.5),
        Recipe(optimiser="adam", lr=1e-2, epochs=2, batch_size=100),
        Recipe(optimiser="adamw", lr=1e-2, weight_decay=0.1, epochs=2, batch_size=32),
    ],
    ids=["sgd", "nesterov, smoothed, clipped", "adam", "adamw"],
)
def test_equals_a_bare_loop_bit_for_bit(recipe: Recipe) -> None:
    part = task()
    made = fit(network(), part, recipe, Run(seed=3, device="cpu"))
    assert same(made, bare(network(), part, recipe, Run(seed=3, device="cpu")))
    assert not made.training


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "cosine"}, {"schedule": "step", "milestones": (1, 2.5), "gamma": 0.2}],
    ids=["cosine", "step"],
)
def test_schedules_equal_their_formulas(changes: dict[str, Any]) -> None:
    recipe = Recipe(lr=0.1, epochs=4, batch_size=16, **changes)
    part = task()
    made = fit(network(), part, recipe, Run(device="cpu"))
    expected = bare(network(), part, recipe, Run(device="cpu"))
    for a, b in zip(made.parameters(), expected.parameters(), strict=True):
        # torch steps the cosine recursively, so rates differ in the last bits of a double: well below float32.
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    constant = fit(network(), part, recipe.but(schedule="constant"), Run(device="cpu"))
    assert not torch.allclose(next(made.parameters()), next(constant.parameters()), atol=1e-3)


def test_augmentation_is_that_of_the_epochs_generator() -> None:
    part = task(40, (1, 2, 3))
    recipe = Recipe(lr=0.1, epochs=2, batch_size=16, augment=Augment(crop=1, flip=True))
    made = fit(network(), part, recipe, Run(device="cpu"))
    assert same(made, bare(network(), part, recipe, Run(device="cpu")))
    assert not same(made, bare(network(), part, recipe.but(augment={}), Run(device="cpu")))


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_any_division_of_the_steps_gives_the_same(division: list[int]) -> None:
    """Without dropout, whose masks are seeded per call, the order of the data runs on across calls."""
    part, recipe = task(), Recipe(lr=0.1, epochs=9, batch_size=16)
    whole = Trainer(network(), part, recipe, Run(device="cpu"))
    whole.advance(sum(division))
    pieces = Trainer(network(), part, recipe, Run(device="cpu"))
    for steps in division:
        pieces.advance(steps)
    assert same(whole.model, pieces.model)
    assert pieces.step == sum(division)


def test_same_seed_same_model_with_dropout_and_the_global_generator_is_left_alone() -> None:
    part, recipe = task(), Recipe(lr=0.1, epochs=2, batch_size=16)
    torch.manual_seed(1)
    first = fit(network(nn.Dropout(0.5)), part, recipe, Run(seed=4, device="cpu"))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = fit(network(nn.Dropout(0.5)), part, recipe, Run(seed=4, device="cpu"))
    assert torch.equal(before, torch.get_rng_state())
    assert same(first, second)
    assert not same(first, fit(network(nn.Dropout(0.5)), part, recipe, Run(seed=5, device="cpu")))


def test_history_has_the_mean_loss_of_each_epoch() -> None:
    part, run = task(64), Run(device="cpu")
    fit(network(), part, Recipe(lr=0.0, epochs=2, batch_size=16), run, stage="still")
    model = network().train()
    expected = []
    for x, y in part.batches(Epoch(16, generator=run.generator("still/epoch 0"))):
        expected.append(float(F.cross_entropy(model(x), y).detach()))
    rows = run.history.of("still")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0]["loss"] == pytest.approx(sum(expected) / 4, rel=1e-6)


@pytest.mark.parametrize(("n", "size", "steps"), [(65, 16, 4), (66, 16, 5), (64, 16, 4), (10, 16, 1), (1, 16, 1)])
def test_a_last_batch_of_one_is_dropped(n: int, size: int, steps: int) -> None:
    seen: list[int] = []

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(y))
        return F.cross_entropy(model(x), y)

    part = task(70).take(range(n))
    fit(network(), part, Recipe(epochs=1, batch_size=size), Run(device="cpu"), loss=loss)
    assert len(seen) == steps
    assert min(seen) > 1 or n == 1


def test_fractions_of_an_epoch() -> None:
    trainer = Trainer(network(), task(64), Recipe(epochs=1.5, batch_size=16), Run(device="cpu"))
    assert (trainer.steps_per_epoch, trainer.total_steps) == (4, 6)
    untouched = fit(network(), task(), Recipe(epochs=0), Run(device="cpu"))
    assert same(untouched, network())


def test_frozen_parameters_and_frozen_batch_norm_stay() -> None:
    model = network()
    model[1].weight.requires_grad_(False)
    made = fit(copy.deepcopy(model), task(), Recipe(lr=0.1, epochs=1), Run(device="cpu"), freeze_batch_norm=True)
    assert torch.equal(made[1].weight, model[1].weight)
    assert torch.equal(made[2].running_mean, model[2].running_mean)
    assert not torch.equal(made[1].bias, model[1].bias)


def test_chosen_parameters_alone_are_trained() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    fit(model, task(), Recipe(lr=0.1, epochs=1), Run(device="cpu"), parameters=list(model[-1].parameters()))
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k]) and "running" not in k}
    assert moved == {"4.weight", "4.bias", "2.num_batches_tracked"}


def test_hooks_run_around_every_step_and_the_rate_can_be_set() -> None:
    calls: list[str] = []
    trainer = Trainer(
        network(),
        task(64),
        Recipe(lr=0.1, epochs=1, batch_size=16),
        Run(device="cpu"),
        on_gradients=lambda m: calls.append("gradients" if m[1].weight.grad is not None else "none"),
        on_step=lambda m: calls.append("step"),
    )
    trainer.set_rate(0.0)
    before = copy.deepcopy(list(trainer.model.parameters()))
    trainer.advance(2)
    assert calls == ["gradients", "step"] * 2
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_endless_goes_round_and_round_in_new_orders() -> None:
    part = task(10).take(range(10))
    stream = Endless(part, Recipe(batch_size=5), Run(device="cpu"), "x")
    epochs = [torch.cat([next(stream)[0], next(stream)[0]]) for _ in range(3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort(dim=0).values, part.tensors()[0].sort(dim=0).values)
    assert not torch.equal(epochs[0], epochs[1])
    single = Endless(task(11).take(range(11)), Recipe(batch_size=5), Run(device="cpu"), "x")
    assert [len(next(single)[1]) for _ in range(4)] == [5, 5, 5, 5]


def test_bad_input_is_refused() -> None:
    recipe, run = Recipe(epochs=1), Run(device="cpu")
    with pytest.raises(InputError, match="is empty"):
        Trainer(network(), task().take([]), recipe, run)
    frozen = network().requires_grad_(False)
    with pytest.raises(InputError, match="no parameter requires a gradient"):
        Trainer(frozen, task(), recipe, run)
    with pytest.raises(InputError, match=r"not finite at step .*lower the learning rate"):
        fit(network(), task(), Recipe(lr=1e30, epochs=3, batch_size=16), run)


@pytest.mark.parametrize(
    "fields",
    [{"lr": -1}, {"lr": math.inf}, {"momentum": 1}, {"epochs": -1}, {"batch_size": 0}, {"gamma": 0}, {"rate": 1}],
    ids=str,
)
def test_recipes_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Recipe(**fields)
    with pytest.raises(InputError):
        Recipe().but(**fields)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(schedule="step", milestones=(1, 2.5), augment=Augment(crop=4, flip=True), clip_norm=1)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from efface.data import Split, load
from efface.models.spec import ModelSpec, build
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

data = load("digits")
model = build(ModelSpec(build="mlp", arguments={"hidden": [16]}), input_shape=(1, 8, 8), num_classes=10)
part = Split.of(data).train
part = part.take(range(1152))  # whole batches of 64, so that both halves of each weigh the same
run = Run(device="cpu", devices=int(sys.argv[2]))
fit(model, part, Recipe(lr=0.1, epochs=2, batch_size=64), run)
if run.fabric.global_rank == 0:
    save_file(model.state_dict(), sys.argv[1])
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.seconds
def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, script, tmp_path / "two.safetensors", "2"], check=True, timeout=240)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "one.safetensors"), "1"])
    runpy.run_path(str(script))
    one, two = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "two.safetensors")
    for name, weights in one.items():
        # The order of additions differs, and 36 steps carry the rounding on.
        torch.testing.assert_close(two[name], weights, rtol=1e-4, atol=1e-5)
