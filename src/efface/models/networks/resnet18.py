"""ResNet-18 for small images: a 3 x 3 stem with stride 1 and no max-pooling; the width is a parameter."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from efface.errors import InputError

__all__ = ["ResNet18", "resnet18"]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation around a shortcut: relu(f(x) + shortcut(x)).

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Stride of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        return cast(torch.Tensor, self.relu2(self.bn2(self.conv2(y)) + shortcut))


class ResNet18(nn.Module):
    """Stem, four stages of two basic blocks, global average pooling, `fc`; see `resnet18`."""

    def __init__(self, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * width, 8 * width, 2), BasicBlock(8 * width, 8 * width, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast(torch.Tensor, self.fc(self.flatten(self.avgpool(x))))


def resnet18(in_channels: int = 3, num_classes: int = 10, width: int = 64) -> ResNet18:
    """Return ResNet-18 with the stem for small images; stages of width, 2 width, 4 width and 8 width channels.

    Its parameters bear torchvision's names and, with width 64, its shapes except for the 3 x 3 stem. The weights start
    from PyTorch's own defaults, so that `efface.models.reset` draws from the same distribution.

    Args:
        in_channels: Channels of the images; any height and width will do.
        num_classes: Width of the logits.
        width: Channels of the first stage: 64 is the published network, 16 gives 16-32-64-128.

    Returns:
        A module from (N, in_channels, H, W) to (N, num_classes), head `fc`.

    Raises:
        InputError: A size below one.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, arXiv 1512.03385.
    """
    if min(in_channels, num_classes, width) < 1:
        raise InputError(
            f"resnet18: in_channels, num_classes, width must be at least 1, not {in_channels}, {num_classes}, {width}."
        )
    return ResNet18(in_channels, num_classes, width)
