"""Root mean square distance of weights."""

from __future__ import annotations

import torch
from torch import nn

from efface.mechanisms.weight_distance import rms_distance


def test_value_and_gradient_are_the_closed_form() -> None:
    model = nn.Linear(3, 2)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model.weight += 2.0
        model.bias -= 1.0
    distance = rms_distance(model, start)
    torch.testing.assert_close(distance, torch.tensor(((6 * 4 + 2 * 1) / 8) ** 0.5))
    distance.backward()
    assert model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad, torch.full((2, 3), 2 / (8 * distance.item())))


def test_gradient_where_nothing_moved_is_zero_not_infinite() -> None:
    model = nn.Linear(3, 2)
    distance = rms_distance(model, {name: p.detach().clone() for name, p in model.named_parameters()})
    assert distance == 0
    distance.backward()
    assert model.weight.grad is not None
    assert torch.equal(model.weight.grad, torch.zeros(2, 3))
