"""Noise against its definition: class by class, its objective in closed form, and weights that never move."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data import Split, load
from efface.data.epoch import Epoch
from efface.mechanisms.class_noise import NoiseMix, class_noise, noise_objective
from efface.running.run import Run
from efface.running.seeding import seeded


def cnn(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 5),
        )


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_objective_is_the_formula_image_by_image() -> None:
    g = torch.Generator().manual_seed(0)
    logits, noise = torch.randn(2, 3, 4, generator=g), torch.randn(2, 3, 1, 2, 2, generator=g)
    labels, signs = torch.tensor([1, 3]), torch.tensor([-1.0, 1.0])
    found = noise_objective(logits, noise, labels, signs, 0.1)
    for c in range(2):
        slow = 0.0
        for b in range(3):
            p = logits[c, b].softmax(0)[labels[c]]
            slow += float(signs[c] * -p.log() + 0.1 * (noise[c, b] ** 2).sum()) / 3
        assert math.isclose(float(found[c]), slow, rel_tol=1e-5)  # float32 sums


def test_classes_learnt_together_equal_classes_learnt_alone() -> None:
    model, run = cnn().eval(), Run(device="cpu")
    together = class_noise(model, [0, 3], ["maximise", "minimise"], (3, 6, 6), run, batch=4, steps=5)
    start = torch.randn(2, 4, 3, 6, 6, generator=Run(device="cpu").generator("noise"))
    for row, (c, sign) in enumerate(((0, -1), (3, 1))):
        alone = start[row].clone().requires_grad_(True)
        adam = torch.optim.Adam([alone], lr=0.1)
        for _ in range(5):
            adam.zero_grad()
            error = F.cross_entropy(model(alone), torch.full((4,), c))
            (sign * error + 0.1 * alone.square().sum((1, 2, 3)).mean()).backward()
            adam.step()
        # Adam divides by the root of squared gradients: rounding of small ones is magnified.
        torch.testing.assert_close(together[row], alone.detach(), rtol=1e-3, atol=1e-4)


def test_check_1_objective_starts_near_300_and_ends_below_0() -> None:
    # 32 x 32: 0.1 * 3 * 32 * 32 = 307 less a cross-entropy of a few units; the norm falls by more than 20.
    run = Run(device="cpu")
    model = cnn().eval()
    with torch.no_grad():
        model[5].weight.mul_(30)  # a confident model, as a trained one is
    start = class_noise(model, [2], ["maximise"], (3, 32, 32), run, batch=8, steps=0)
    end = class_noise(model, [2], ["maximise"], (3, 32, 32), run, batch=8, steps=40)
    rows = [r["objective"] for r in run.history.of("noise")]
    assert 285 < rows[0] < 315
    assert rows[-1] < 0
    assert float(end.square().sum()) < float(start.square().sum()) / 20


@pytest.mark.parametrize("train_mode", [False, True])
def test_check_3_weights_never_move_and_statistics_only_in_train_mode(train_mode: bool) -> None:
    model = cnn().train()
    before = state(model)
    class_noise(model, [0, 1], ["maximise"] * 2, (3, 6, 6), Run(device="cpu"), batch=4, steps=3, train_mode=train_mode)
    after = model.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved == ({"1.running_mean", "1.running_var", "1.num_batches_tracked"} if train_mode else set())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_train_mode_sees_each_class_in_a_batch_of_its_own() -> None:
    together = class_noise(
        cnn(), [0, 1], ["maximise"] * 2, (3, 6, 6), Run(device="cpu"), batch=4, steps=2, train_mode=True
    )
    sizes: list[int] = []
    model = cnn()
    model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    again = class_noise(
        model, [0, 1], ["maximise"] * 2, (3, 6, 6), Run(device="cpu"), batch=4, steps=2, train_mode=True
    )
    assert sizes == [4] * 4
    assert torch.equal(together, again)


def test_mix_holds_every_image_so_many_times_and_every_real_sample_once() -> None:
    part = Split.of(load("digits")).retain.take(range(30))
    noise = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mix = NoiseMix(noise, [4, 7], copies=5, part=part)
    batches = list(mix.batches(Epoch(8, generator=torch.Generator().manual_seed(1))))
    x, y = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    assert len(x) == len(mix) == 2 * 3 * 5 + 30
    assert mix.noise_samples == 30
    for c, label in enumerate((4, 7)):
        for image in noise[c]:
            same = (x == image).flatten(1).all(1)
            assert int(same.sum()) == 5
            assert set(y[same].tolist()) == {label}
    inputs, labels = part.tensors()
    for image, label in zip(inputs, labels, strict=True):
        same = (x == image).flatten(1).all(1)
        assert int(same.sum()) == 1
        assert int(y[same][0]) == int(label)
    first = [int(b[1][0]) for b in batches]
    assert len(set(first)) > 1  # shuffled


def test_mix_shares_a_batch_among_ranks_and_drops_the_last() -> None:
    noise = torch.arange(10.0).reshape(1, 10, 1)
    mix = NoiseMix(noise, [0])
    halves = [list(mix.batches(Epoch(4, rank=r, world=2))) for r in (0, 1)]
    joined = torch.cat([torch.cat([a[0], b[0]]) for a, b in zip(*halves, strict=True)])
    assert sorted(joined.flatten().tolist()) == list(range(10))
    assert sum(len(x) for x, _ in mix.batches(Epoch(4, drop_last=True))) == 8
