"""A head that grows by a class and shrinks back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.methods.boundary_expand import narrow, widen
from efface.models import head, mlp
from efface.running.seeding import seeded


def model(bias: bool = True, features: int = 6) -> nn.Module:
    with seeded(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, features), nn.ReLU(), nn.Linear(features, 3, bias=bias))
    return net.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_old_logits_stay_bit_for_bit_through_both(bias: bool) -> None:
    net, x = model(bias), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = net(x)
        state = torch.get_rng_state()
        widen(net, "3", torch.Generator().manual_seed(2))
        assert torch.equal(state, torch.get_rng_state())
        assert net(x).shape == (5, 4)
        assert torch.equal(net(x)[:, :3], before)
        narrow(net, "3")
        assert torch.equal(net(x), before)
    assert head(net, x)[1].out_features == 3


def test_the_new_row_is_xavier_normal_with_no_bias() -> None:
    net = mlp((1, 28, 28), hidden=(20_000,))
    widen(net, "fc2", torch.Generator().manual_seed(0))
    layer = net.get_submodule("fc2")
    row, bias = layer.weight[-1], layer.bias[-1]
    # A standard deviation over 20,000 draws has relative error 1 / sqrt(40,000) = 0.5 %; 3 % is six of those.
    assert float(row.std()) == pytest.approx(math.sqrt(2 / (20_000 + 11)), rel=0.03)
    assert float(bias) == 0


def test_frozen_heads_stay_frozen_and_nested_ones_are_found() -> None:
    net = nn.Sequential(nn.Flatten(), nn.ModuleDict({"inner": model()})["inner"])
    net[1][3].weight.requires_grad_(False)
    widen(net, "1.3", torch.Generator().manual_seed(0))
    assert not net[1][3].weight.requires_grad
    assert net[1][3].bias.requires_grad


def test_a_model_that_is_its_own_head_is_refused() -> None:
    with pytest.raises(InputError, match="Sequential"):
        widen(nn.Linear(3, 2), "", torch.Generator())
