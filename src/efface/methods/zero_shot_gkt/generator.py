"""A network that makes images for another to be taught by, and what it is taught: answers and attention."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Generator", "attention", "attention_gap", "gate", "stages"]

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Sigmoid, nn.Tanh)


class Generator(nn.Module):
    """Images from Gaussian vectors: linear, two nearest upsamplings with convolutions, BatchNorm at the end.

    The start is as large as 32 x 32 and (one channel) 28 x 28 want it, 8 x 8; other sizes get the nearest that covers
    them, and the border is cut off. No tanh: the last BatchNorm keeps outputs near mean 0 and variance 1, as normalised
    data are.

    Args:
        input_shape: (channels, height, width) of the images.
        width: Channels of the start; half as many after the second upsampling.
        size: Length of the Gaussian vectors.

    Source: Chundawat et al., arXiv 2201.05629, official notebook; after Micaelli and Storkey 2019.
    """

    def __init__(self, input_shape: Sequence[int], width: int = 128, size: int = 128) -> None:
        super().__init__()
        channels, height, breadth = input_shape
        # The last convolution has a 7 x 7 kernel, which takes 4 pixels, for one channel, and 3 x 3 otherwise.
        kernel, taken = (7, 4) if channels == 1 else (3, 0)
        self.size, self.image = size, (height, breadth)
        self.start = (width, math.ceil((height + taken) / 4), math.ceil((breadth + taken) / 4))
        half = max(1, width // 2)
        self.linear = nn.Linear(size, math.prod(self.start))
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.LeakyReLU(0.2),
            nn.Conv2d(half, channels, kernel, padding=1),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, z: Tensor) -> Tensor:
        """Map vectors (B, size) to images (B, channels, height, width)."""
        x = self.layers(self.linear(z).reshape(-1, *self.start))
        (h, w), (top, left) = self.image, ((s - wanted) // 2 for s, wanted in zip(x.shape[2:], self.image, strict=True))
        images: Tensor = self.norm(x[:, :, top : top + h, left : left + w])
        return images


def gate(answers: Tensor, classes: Collection[int], share: float) -> Tensor:
    """Return which images may be taught: max over the classes of softmax(t)_f <= share.

    Args:
        answers: The teacher's logits (B, K).
        classes: The classes that must not pass.
        share: Largest probability that passes, epsilon.

    Returns:
        (B,) bool.
    """
    return answers.softmax(1)[:, sorted(classes)].amax(1) <= share


def attention(activation: Tensor) -> Tensor:
    """Return the map v / ||v||, v = mean over channels of a^2, of activations (B, C, h, w), as (B, h w)."""
    return F.normalize(activation.square().mean(1).flatten(1), dim=1)


def attention_gap(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the sum over stages of the mean squared difference of two networks' attention maps; 0 without stages.

    Args:
        student: Activations (B, C, h, w) by stage.
        teacher: The same of the other network.

    Source: Zagoruyko and Komodakis, arXiv 1612.03928.
    """
    gaps = [(attention(s) - attention(t)).square().mean() for s, t in zip(student, teacher, strict=True)]
    return torch.stack(gaps).sum() if gaps else torch.zeros(())


@contextmanager
def stages(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the model's spatial activations, (B, C, h, w) each, of every forward pass in the block.

    What comes out of activation layers; if the model has none as modules, out of its BatchNorm layers, otherwise out of
    its convolutions. The list is the caller's to clear between passes.

    Args:
        model: Any module.
    """
    found: list[Tensor] = []
    kinds: tuple[type[nn.Module], ...] = ()
    for kinds in (ACTIVATIONS, (nn.BatchNorm2d,), (nn.Conv2d,)):
        if any(isinstance(m, kinds) for m in model.modules()):
            break

    def keep(_: nn.Module, __: tuple, output: Tensor) -> None:
        # A copy where the next layer might work in place; a map of one position has no attention.
        if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found.append(output.clone())

    handles = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
