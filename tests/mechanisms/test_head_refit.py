"""The head's fit: convex, kept rows only, and never from what was forgotten."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.data import Split, load
from efface.mechanisms.head_refit import refit_head
from efface.models.predictions import features_of
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import small_mlp


@pytest.fixture
def split() -> Split:
    return Split.of(load("digits"), Request(classes=(0,))).only(("retain",), "the fit")


def loss(model: nn.Module, split: Split, start: nn.Module) -> float:
    """The objective that the docstring states, from its definition."""
    x = features_of(model, split.retain, "fc2")
    scale = x.pow(2).mean().sqrt()
    layer, before = model.get_submodule("fc2"), start.get_submodule("fc2")
    z = F.linear(x, layer.weight[1:], layer.bias[1:])
    far = ((layer.weight - before.weight)[1:] * scale).pow(2).sum() + (layer.bias - before.bias)[1:].pow(2).sum()
    return float(F.cross_entropy(z, split.retain.labels - 1) + 1e-3 * far)


def test_it_ends_at_the_minimum_of_the_stated_loss(split: Split) -> None:
    start = small_mlp().eval()
    model = copy.deepcopy(start)
    refit_head(model, split, Run(device="cpu"), 300, "the test")
    found = loss(model, split, start)
    assert found < 0.9 * loss(start, split, start)
    generator = torch.Generator().manual_seed(0)
    layer = model.get_submodule("fc2")
    for p in (layer.weight, layer.bias):
        for _ in range(3):
            other = copy.deepcopy(model)
            with torch.no_grad():
                step = 0.05 * torch.randn(p[1:].shape, generator=generator)
                dict(other.get_submodule("fc2").named_parameters())["weight" if p.ndim > 1 else "bias"][1:] += step
            assert loss(other, split, start) > found


def test_rows_of_forgotten_classes_and_other_layers_stay(split: Split) -> None:
    start = small_mlp().eval()
    model = copy.deepcopy(start)
    refit_head(model, split, Run(device="cpu"), 3, "the test")
    for name, p in model.named_parameters():
        before = start.get_parameter(name)
        if name.startswith("fc2."):
            assert torch.equal(p[0], before[0])
            assert not torch.equal(p[1:], before[1:])
        else:
            assert torch.equal(p, before)


def test_no_steps_or_a_frozen_head_change_nothing(split: Split) -> None:
    start = small_mlp().eval()
    frozen = copy.deepcopy(start)
    frozen.get_parameter("fc2.weight").requires_grad_(False)
    for model, steps in ((copy.deepcopy(start), 0), (frozen, 5)):
        refit_head(model, split, Run(device="cpu"), steps, "the test")
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))
