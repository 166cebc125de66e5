import torch
from torch import nn

from efface.models import resnet18, seeded
from efface.running.extras import import_torchvision


def units(model):
    """Filters of all convolutions plus rows of all linear layers."""
    return sum(m.weight.shape[0] for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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
