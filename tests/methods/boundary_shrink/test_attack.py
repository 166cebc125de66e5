"""Attacks stay in their bound and in the valid range, whatever the normalisation; curvature has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.data import ArraySamples, Part
from efface.methods.boundary_shrink.attack import PixelSpace, attacked, curvature
from efface.running.seeding import seeded


def images(count: int = 12) -> Part:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 6, 6), dtype=np.uint8)
    samples = ArraySamples(pixels, rng.integers(0, 4, count), mean=(0.49, 0.48, 0.44), std=(0.24, 0.2, 0.26))
    return Part("forget", samples, np.arange(count))


def net() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(96, 4))


@pytest.mark.parametrize(("steps", "step"), [(1, None), (5, 8 / 255)])
def test_check_1_within_the_bound_and_the_valid_range_in_pixels(steps: int, step: float | None) -> None:
    part, model = images(), net()
    space = PixelSpace.of(part)
    x, y = part.tensors()
    moved = attacked(model, x, y, space, 0.1, steps=steps, step=step)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.49, 0.48, 0.44), (0.24, 0.2, 0.26)))
    pixels, before = moved * std + mean, x * std + mean  # undone with the data's own constants, not with the space
    assert space.known
    assert float((pixels - before).abs().max()) <= 0.1 + 1e-6
    assert float(pixels.min()) >= -1e-6
    assert float(pixels.max()) <= 1 + 1e-6
    torch.testing.assert_close(space.pixels(x), before, rtol=0, atol=1e-6)
    assert float((pixels - before).abs().max()) > 0.099
    with torch.no_grad():
        model.eval()
        assert F.cross_entropy(model(moved), y) > F.cross_entropy(model(x), y)


def test_the_model_is_left_alone() -> None:
    part, model = images(), net().train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = part.tensors()
    attacked(model, x, y, PixelSpace.of(part), 0.1, steps=3, step=0.05)
    assert model.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_one_step_is_the_sign_of_the_gradient() -> None:
    part, model = images(), net().eval()
    x, y = part.tensors()
    space = PixelSpace(torch.tensor(-100.0), torch.tensor(200.0), True)  # so wide that nothing is clipped
    x.requires_grad_(True)
    F.cross_entropy(model(x), y).backward()
    assert x.grad is not None
    expected = x.detach() + 0.001 * 200 * x.grad.sign()
    torch.testing.assert_close(attacked(model, x.detach(), y, space, 0.001), expected)


def test_unknown_constants_are_read_off_the_values_by_channel() -> None:
    x = np.random.default_rng(0).normal(size=(9, 2, 4, 4)).astype(np.float32)
    space = PixelSpace.of(Part("forget", ArraySamples(x, np.zeros(9, np.int64)), np.arange(9)), size=4)
    assert not space.known
    np.testing.assert_allclose(space.low[:, 0, 0], x.min((0, 2, 3)))
    np.testing.assert_allclose((space.low + space.unit)[:, 0, 0], x.max((0, 2, 3)), rtol=1e-6)
    flat = PixelSpace.of(Part("forget", ArraySamples(x.reshape(9, 32), np.zeros(9, np.int64)), np.arange(9)))
    assert flat.low.shape == (1,)


class Bowl(nn.Module):
    """Two logits of which the first is the squared norm times `a`: its cross-entropy is log(1 + exp(-a x^2))."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.a * x.square().sum(1)
        return torch.stack([s, torch.zeros_like(s)], 1)


@pytest.mark.parametrize("distance", [0.9, 0.01])
def test_curvature_is_the_change_of_slope(distance: float) -> None:
    x = torch.tensor([[0.5], [-1.2]], dtype=torch.float64)
    model = Bowl(0.7).double()
    y = torch.zeros(2, dtype=torch.int64)

    def slope(v: torch.Tensor) -> torch.Tensor:  # d/dx log(1 + exp(-a x^2))
        return -2 * 0.7 * v * torch.sigmoid(-0.7 * v.square())

    found = curvature(model, x, y, distance)
    z = slope(x).sign()
    torch.testing.assert_close(found, (slope(x + distance * z) - slope(x)).abs()[:, 0], rtol=1e-5, atol=1e-9)


def test_curvature_can_be_differentiated_by_the_weights() -> None:
    x, y = torch.tensor([[0.5, 0.1], [-1.2, 0.4]], dtype=torch.float64), torch.zeros(2, dtype=torch.int64)

    def total(a: torch.Tensor) -> torch.Tensor:
        model = Bowl(0.7).double()
        return torch.func.functional_call(_Curved(model), {"model.a": a}, (x, y))

    assert torch.autograd.gradcheck(total, torch.tensor(0.7, dtype=torch.float64, requires_grad=True))


class _Curved(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return curvature(self.model, x, y, 0.3, differentiable=True).sum()
