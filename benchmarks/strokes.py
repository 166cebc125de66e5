"""Images as large as MNIST's, made here: benchmarks need their size, not their content."""

from __future__ import annotations

import torch

from efface.data import Data
from efface.data.samples import ArraySamples

__all__ = ["strokes"]


def strokes(train: int, test: int) -> Data:
    """Return 28 x 28 images of ten classes: a class's own pattern, shifted and under noise.

    Args:
        train: Training images.
        test: Test images.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = (torch.rand(10, 1, 28, 28, generator=generator) > 0.8).float()

    def samples(n: int) -> ArraySamples:
        y = torch.arange(n) % 10
        shifts = torch.randint(-2, 3, (n, 2), generator=generator).tolist()
        x = torch.stack([patterns[c].roll(s, (1, 2)) for c, s in zip(y.tolist(), shifts, strict=True)])
        x = x + 0.3 * torch.randn(x.shape, generator=generator)
        return ArraySamples((x.clamp(0, 1) * 255).to(torch.uint8), y)

    return Data("strokes", samples(train), samples(test), tuple(map(str, range(10))))
