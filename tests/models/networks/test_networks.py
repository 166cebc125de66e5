"""The four built-in networks, against published unit counts, hand-written forward passes and torchvision."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.errors import InputError
from efface.models import all_cnn, lenet5, mlp, resnet18, seeded
from efface.running.extras import import_torchvision


def units(model):
    """Filters of all convolutions plus rows of all linear layers."""
    return sum(m.weight.shape[0] for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_mlp_is_two_affine_maps_around_a_sigmoid():
    model = mlp()
    assert parameters(model) == 784 * 1000 + 1000 + 1000 * 10 + 10
    x = numbers(3, 1, 28, 28)
    W1, b1, W2, b2 = model.parameters()
    expected = torch.sigmoid(x.reshape(3, 784) @ W1.T + b1) @ W2.T + b2
    torch.testing.assert_close(model(x), expected)


def test_mlp_sizes_follow_the_arguments():
    model = mlp((2, 3, 4), num_classes=5, hidden=(7, 6), activation="relu")
    assert [tuple(p.shape) for p in model.parameters() if p.dim() == 2] == [(7, 24), (6, 7), (5, 6)]
    assert isinstance(model.relu1, nn.ReLU)


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


def test_resnet18_has_the_4810_units_of_the_decay_experiments():
    assert units(resnet18()) == 4810


def test_resnet18_is_torchvisions_with_a_small_stem():
    torchvision = import_torchvision()
    with seeded(3):
        ours = resnet18(num_classes=7).eval()
    theirs = torchvision.models.resnet18(num_classes=7)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    x = numbers(2, 3, 16, 16)
    # The same operations in the same order; the tolerance allows another convolution algorithm.
    torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.train()(x), theirs.train()(x), rtol=1e-4, atol=1e-4)


def test_resnet18_width_16_has_16_to_128_channels_and_runs_on_tiny_images():
    model = resnet18(in_channels=1, num_classes=3, width=16)
    assert [model.get_submodule(f"layer{i}")[1].conv2.out_channels for i in range(1, 5)] == [16, 32, 64, 128]
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_all_cnn_equals_the_papers_order_of_convolution_and_average():
    """A 1 x 1 convolution and then the average over positions is the linear layer after the average."""
    model = all_cnn(batch_norm=False).eval()
    assert parameters(model) == 1_369_738  # "1.4 M" in the paper's table
    x = numbers(2, 3, 32, 32)
    last = model[:-3](x)
    assert last.shape == (2, 192, 6, 6)
    expected = F.conv2d(last, model.fc.weight[:, :, None, None], model.fc.bias).mean(dim=(2, 3))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-6)


def test_all_cnn_options_add_and_remove_layers():
    def count(model, kind):
        return sum(isinstance(m, kind) for m in model)

    assert count(all_cnn(), nn.BatchNorm2d) == 8
    assert all_cnn().conv1.bias is None
    assert count(all_cnn(batch_norm=False), nn.BatchNorm2d) == 0
    assert all_cnn(batch_norm=False).conv1.bias is not None
    assert [m.p for m in all_cnn(dropout=True) if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]


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
