import torch
from torch import nn
from torch.nn import functional as F

from efface.models import all_cnn


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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
