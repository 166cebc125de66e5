import torch
from torch import nn

from efface.models import mlp


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
