from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.errors import InputError
from efface.models.head import features, head
from efface.models.unit_head import UnitHead, with_unit_head


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def test_logits_are_inner_products_with_features_of_unit_length() -> None:
    model, x = network(), torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    h, weight = model[:3](x), model[3].weight.clone()
    made, new = with_unit_head(model, x)
    assert made is model
    torch.testing.assert_close(model(x), torch.stack([weight @ (row / row.norm()) for row in h]))
    name, layer = head(model, x)
    assert (name, layer) == ("3.1", new.linear)
    torch.testing.assert_close(features(model, x).norm(dim=1), torch.ones(7))


def test_a_zero_row_stays_zero_and_a_second_call_changes_nothing() -> None:
    model, new = with_unit_head(network(), torch.zeros(2, 6))
    again, same = with_unit_head(model, torch.zeros(2, 6))
    assert again is model
    assert same is new
    assert torch.equal(new(torch.zeros(1, 5)), torch.zeros(1, 3))


def test_a_bare_linear_layer_becomes_the_head() -> None:
    layer, x = nn.Linear(4, 2), torch.randn(3, 4)
    made, new = with_unit_head(layer, x)
    assert made is new
    assert isinstance(made, UnitHead)
    torch.testing.assert_close(made(x), F.normalize(x, dim=1) @ layer.weight.T)


def test_without_a_linear_head_it_is_refused() -> None:
    with pytest.raises(InputError, match="linear layer"):
        with_unit_head(nn.Sequential(nn.Flatten(), nn.LogSoftmax(1)), torch.zeros(2, 3))
