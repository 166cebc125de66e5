"""A small convolutional network with BatchNorm for 8 x 8 images, built by import path in plans of this folder."""

from torch import nn


def small_batch_norm(width: int = 16, num_classes: int = 10) -> nn.Module:
    """Return three 3 x 3 convolutions with BatchNorm (width, 2 width, 2 width), two poolings and a linear head."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, num_classes),
    )
