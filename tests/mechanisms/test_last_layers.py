"""Which modules the last k layers are, and that training them leaves all others alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.mechanisms.last_layers import last_layers
from efface.models import lenet5, resnet18


def test_counts_weight_layers_from_the_end_with_their_normalisation() -> None:
    net = resnet18(in_channels=1, width=4)
    shape = (1, 8, 8)
    assert last_layers(net, 1, shape) == ["fc"]
    assert last_layers(net, 2, shape) == ["layer4.1.conv2", "layer4.1.bn2", "fc"]
    block = last_layers(net, 6, shape)
    assert {name.split(".")[0] for name in block} == {"layer4", "fc"}
    assert len(block) == 11
    assert last_layers(net, 5, shape, include_head=False) == block[:-1]


def test_all_layers_are_allowed_and_more_are_not() -> None:
    net = lenet5()
    assert last_layers(net, 5, (1, 28, 28)) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    with pytest.raises(InputError, match="1 to 5"):
        last_layers(net, 6, (1, 28, 28))
    with pytest.raises(InputError, match="1 to 4"):
        last_layers(net, 5, (1, 28, 28), include_head=False)


def test_the_head_is_found_wherever_it_was_registered() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 3)
            self.body = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.relu(self.body(x)))

    assert last_layers(Backwards(), 1, (4,), include_head=False) == ["body"]
