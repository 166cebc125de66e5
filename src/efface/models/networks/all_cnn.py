"""AllCNN-C: a network of convolutions alone, much used in the unlearning literature."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from efface.errors import InputError

__all__ = ["all_cnn"]

# (filters, kernel, stride, padding) of All-CNN-C; the third and the sixth stand in for pooling.
LAYERS = (
    (96, 3, 1, 1),
    (96, 3, 1, 1),
    (96, 3, 2, 1),
    (192, 3, 1, 1),
    (192, 3, 1, 1),
    (192, 3, 2, 1),
    (192, 3, 1, 0),
    (192, 1, 1, 0),
)


def all_cnn(
    in_channels: int = 3, num_classes: int = 10, batch_norm: bool = True, dropout: bool = False
) -> nn.Sequential:
    """Return AllCNN-C: eight convolutions with ReLU, global average pooling, and a linear head.

    The paper ends in a 1 x 1 convolution to the classes, a ReLU and the average over 6 x 6 positions. Averaging first
    and applying the same weights as a linear layer `fc` is the same function without that last ReLU, which would cut
    off negative logits. Batch normalisation is ours (on by default, so that it trains without a tuned schedule).

    Args:
        in_channels: Channels of the images, which must be at least 9 x 9 pixels.
        num_classes: Width of the logits.
        batch_norm: Normalise after every convolution, which then has no bias.
        dropout: The paper's dropout: 20 % of the inputs, 50 % after each convolution of stride 2.

    Returns:
        A module from (N, in_channels, H, W) to (N, num_classes), head `fc`, initialised by PyTorch's defaults.

    Raises:
        InputError: A size below one.

    Source: Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity", arXiv 1412.6806, tables 1 and 2.
    """
    if min(in_channels, num_classes) < 1:
        raise InputError(f"all_cnn: in_channels and num_classes must be at least 1, not {in_channels}, {num_classes}.")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if dropout:
        layers["dropout0"] = nn.Dropout(0.2)
    channels = in_channels
    for i, (filters, kernel, stride, padding) in enumerate(LAYERS, start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, filters, kernel, stride, padding, bias=not batch_norm)
        if batch_norm:
            layers[f"bn{i}"] = nn.BatchNorm2d(filters)
        layers[f"relu{i}"] = nn.ReLU()
        if dropout and stride == 2:
            layers[f"dropout{i}"] = nn.Dropout(0.5)
        channels = filters
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)
