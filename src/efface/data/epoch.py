"""One pass over samples: how they are batched, ordered and augmented, and which share of each batch is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from efface.data.augment import Augment
from efface.errors import InputError

__all__ = ["Epoch"]


@dataclass(frozen=True, eq=False)
class Epoch:
    """How one pass goes: the one argument of whatever yields batches.

    A generator is used up by its pass: a second one needs a new `Epoch`, or `dataclasses.replace`.

    Attributes:
        size: Samples per batch, over all ranks together; at least 1.
        device: Where inputs and labels are wanted.
        generator: Shuffles, and drives the augmentation; without it samples come in order.
        augment: Random crop and flip; needs a generator.
        drop_last: Leave out an incomplete last batch (unless it is the only one).
        rank: This process among `world`; it gets every `world`-th sample of each batch.
        world: Number of processes that share each batch.

    Raises:
        InputError: The size is below 1.
    """

    size: int
    device: torch.device | str = "cpu"
    generator: torch.Generator | None = None
    augment: Augment | None = None
    drop_last: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        """Check the batch size."""
        if self.size < 1:
            raise InputError(f"batch size {self.size}; needed: at least 1")

    def order(self, count: int) -> list[Tensor]:
        """Return the whole batches, over all ranks, as positions (int64, CPU) among `count` samples."""
        shuffle = self.generator is not None
        positions = torch.randperm(count, generator=self.generator) if shuffle else torch.arange(count)
        batches = list(positions.split(self.size))
        if self.drop_last and len(batches) > 1 and len(batches[-1]) < self.size:
            batches.pop()
        return batches

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's samples of a batch."""
        return batch[self.rank :: self.world]
