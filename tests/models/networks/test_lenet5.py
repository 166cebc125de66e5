import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.models import lenet5


def units(model):
    """Filters of all convolutions plus rows of all linear layers."""
    return sum(m.weight.shape[0] for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_lenet5_equals_its_definition_written_out():
    model = lenet5()
    assert units(model) == 6 + 16 + 120 + 84 + 10
    assert parameters(model) == 61_706  # the well-known size of LeNet-5
    x = numbers(2, 1, 28, 28)
    y = F.avg_pool2d(F.relu(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=2)), 2)
    y = F.avg_pool2d(F.relu(F.conv2d(y, model.conv2.weight, model.conv2.bias)), 2).flatten(1)
    y = model.fc3(F.relu(model.fc2(F.relu(model.fc1(y)))))
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (2, 29, 13)])
def test_lenet5_takes_images_of_other_sizes(shape):
    assert lenet5(shape, 4)(torch.zeros(1, *shape)).shape == (1, 4)
