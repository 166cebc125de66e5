"""A multi-layer perceptron: the MNIST model of the mnemonic-code paper (784-1000-10, sigmoid) in its default sizes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from efface.errors import InputError, nearest

__all__ = ["mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(
    input_shape: Sequence[int] = (1, 28, 28),
    num_classes: int = 10,
    hidden: Sequence[int] = (1000,),
    activation: str = "sigmoid",
) -> nn.Sequential:
    """Return a perceptron from flattened inputs to logits: `fc1`, activation, `fc2`, ...; the last layer is the head.

    logits = W_k a(W_{k-1} ... a(W_1 x + b_1) ...) + b_k

    Args:
        input_shape: Shape of one input, e.g. (1, 28, 28); its product is the width of the first layer.
        num_classes: Width of the logits.
        hidden: Widths of the hidden layers, in order; empty for a linear classifier.
        activation: "sigmoid" (the paper's), "relu" or "tanh".

    Returns:
        A module from (N, *input_shape) to (N, num_classes), initialised by PyTorch's defaults.

    Raises:
        InputError: An unknown activation, or a size below one.

    Source: Yamashita, Yamada, Shibata, arXiv 2306.05670 (MNIST experiments).
    """
    sizes = [math.prod(input_shape), *hidden, num_classes]
    if min(sizes) < 1:
        raise InputError(f"mlp: every layer needs at least one unit, but the sizes are {sizes}.")
    if activation not in ACTIVATIONS:
        raise InputError(f"mlp: unknown activation {activation!r}. {nearest(activation, ACTIVATIONS)}")
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for i in range(1, len(sizes)):
        if i > 1:
            layers.append((f"{activation}{i - 1}", ACTIVATIONS[activation]()))
        layers.append((f"fc{i}", nn.Linear(sizes[i - 1], sizes[i])))
    return nn.Sequential(OrderedDict(layers))
