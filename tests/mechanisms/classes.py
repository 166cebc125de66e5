"""A small network with a convolution and attention, and inputs whose mean depends on the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 5


class Block(nn.Module):
    """A convolution, attention over its positions, and a head."""

    def __init__(self, batch_first: bool = True, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, stride=2, padding=1)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=batch_first)
        self.head = nn.Linear(width, CLASSES)
        self.batch_first = batch_first

    def tokens(self, x: Tensor) -> Tensor:
        return self.stem(x).relu().flatten(2).mT

    def forward(self, x: Tensor) -> Tensor:
        t = self.tokens(x)
        t = t if self.batch_first else t.transpose(0, 1)
        mixed, _ = self.attention(t, t, t, need_weights=False)
        return self.head(mixed.mean(1 if self.batch_first else 0))


def samples(n: int = 40, seed: int = 0, shape: tuple[int, ...] = (2, 6, 6)) -> tuple[Tensor, Tensor]:
    """Inputs whose mean depends on the class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    centres = torch.randn(CLASSES, *shape, generator=generator)
    return centres[y] + 0.5 * torch.randn(n, *shape, generator=generator), y


def batches(x: Tensor, y: Tensor, size: int = 7) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))
