"""LeNet-5 with ReLU and average pooling: the MNIST model of the decay experiments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from efface.errors import InputError
from efface.models.networks.average_pooling import AveragePooling

__all__ = ["lenet5"]


def lenet5(input_shape: Sequence[int] = (1, 28, 28), num_classes: int = 10) -> nn.Sequential:
    """Return LeNet-5: two 5 x 5 convolutions (6 and 16 filters), ReLU, average pooling, then 120, 84, `num_classes`.

    The first convolution is padded by 2, so that 28 x 28 images keep their size.

    Args:
        input_shape: (channels, height, width) of one input; height and width at least 12.
        num_classes: Width of the logits.

    Returns:
        A module from (N, *input_shape) to (N, num_classes), head `fc3`, initialised by PyTorch's defaults.

    Raises:
        InputError: The inputs are no images of at least 12 x 12 pixels.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, with the
    activations of Kaluri, "Time Inspired Decay Mechanism for Machine Unlearning with Importance Estimation".
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 12 or input_shape[0] < 1 or num_classes < 1:
        raise InputError(
            f"lenet5 needs images of shape (channels, height, width), height and width at least 12, and a class "
            f"or more; it was given {tuple(input_shape)} and {num_classes} classes. For smaller inputs: mlp, resnet18."
        )
    channels, height, width = input_shape
    flat = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=AveragePooling(),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=AveragePooling(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, num_classes),
        )
    )
