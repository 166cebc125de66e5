"""The four built-in networks, against published unit counts, hand-written forward passes and torchvision."""

import math

import pytest
from torch import nn

from efface.errors import InputError
from efface.models import all_cnn, lenet5, mlp, resnet18


@pytest.mark.parametrize("build", [mlp, lenet5, resnet18, all_cnn])
def test_initial_weights_are_pytorchs_defaults(build):
    """Every matrix is uniform within 1 / sqrt(fan in), so that `reset` draws from the same distribution."""
    for module in build().modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert 0.7 * bound < module.weight.abs().max() <= bound


@pytest.mark.parametrize(
    "call",
    [
        lambda: mlp(hidden=(0,)),
        lambda: mlp(activation="sigmoidal"),
        lambda: lenet5((1, 8, 8)),
        lambda: lenet5((784,)),
        lambda: resnet18(width=0),
        lambda: all_cnn(num_classes=0),
    ],
)
def test_impossible_sizes_are_refused(call):
    with pytest.raises(InputError):
        call()
