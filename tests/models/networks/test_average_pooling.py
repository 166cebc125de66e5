import pytest
import torch
from torch import nn

from efface.models.networks.average_pooling import AveragePooling


def numbers(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    "shape", [(3, 2, 28, 28), (2, 28, 28), (4, 16, 10, 10), (2, 3, 7, 9), (1, 1, 2, 130), (2, 2, 2, 2)]
)
def test_values_and_gradients_are_those_of_pytorch(shape):
    x = numbers(*shape).requires_grad_()
    found, wanted = AveragePooling()(x), nn.AvgPool2d(2)(x)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    gradient = numbers(*wanted.shape)
    ours, theirs = (torch.autograd.grad(y, x, gradient)[0] for y in (found, wanted))
    assert torch.equal(ours, theirs)


def test_doubles_and_inputs_with_channels_last_are_pooled_alike():
    x = numbers(2, 3, 8, 8, dtype=torch.float64)
    assert AveragePooling()(x).dtype == torch.float64
    torch.testing.assert_close(AveragePooling()(x), nn.AvgPool2d(2)(x), rtol=1e-15, atol=1e-15)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(AveragePooling()(last), nn.AvgPool2d(2)(last))


def test_derivatives_go_forward_backward_and_over_a_batch_of_models():
    x = numbers(3, 2, 4, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(AveragePooling(), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(AveragePooling(), x)
    torch.testing.assert_close(torch.func.vmap(AveragePooling())(x), nn.AvgPool2d(2)(x))
