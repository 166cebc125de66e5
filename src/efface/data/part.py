"""A named part of a data set: indices into its samples, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from efface.data.augment import Augment
from efface.data.samples import Samples
from efface.errors import InputError

__all__ = ["Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """Indices into a collection of samples; nothing is copied.

    Attributes:
        name: What the part is called in errors and progress, e.g. `retain`.
        samples: The training or test set.
        indices: Sorted or unsorted positions in `samples`, int64.
        other_labels: Labels to use in place of the samples' own, aligned with `indices`; see `relabelled`.
    """

    name: str
    samples: Samples
    indices: np.ndarray
    other_labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Tensor:
        """Labels of the part, int64 on the CPU, in the order of `indices`."""
        if self.other_labels is not None:
            return self.other_labels
        return self.samples.labels[torch.from_numpy(self.indices)]

    def take(self, positions: Sequence[int] | np.ndarray | Tensor, name: str | None = None) -> Part:
        """Return the part made of these positions *within this part*."""
        chosen = np.asarray(positions, dtype=np.int64)
        other = None if self.other_labels is None else self.other_labels[torch.from_numpy(chosen)]
        return Part(name or self.name, self.samples, self.indices[chosen], other)

    def of_class(self, *classes: int) -> Part:
        """Return the samples of the given classes."""
        return self.take(np.flatnonzero(np.isin(self.labels.numpy(), classes)))

    def sample(self, size: int, generator: torch.Generator) -> Part:
        """Return `size` positions drawn without replacement, in their original order; all if there are fewer."""
        if size >= len(self):
            return self
        return self.take(np.sort(torch.randperm(len(self), generator=generator)[:size].numpy()))

    def relabelled(self, labels: Tensor) -> Part:
        """Return the same samples with other labels, int64 (N,), in the order of `indices`."""
        if labels.shape != (len(self),):
            raise InputError(f"labels have shape {tuple(labels.shape)}; needed: ({len(self)},)")
        return dataclasses.replace(self, other_labels=labels.to("cpu", torch.int64))

    def joined(self, other: Part) -> Part:
        """Return this part followed by another of the same samples; each keeps its labels."""
        if other.samples is not self.samples:
            raise InputError(f"the {self.name} and {other.name} parts come from different samples")
        labels = torch.cat([self.labels, other.labels])
        return Part(
            f"{self.name} and {other.name}", self.samples, np.concatenate([self.indices, other.indices]), labels
        )

    def order(self, size: int, generator: torch.Generator | None = None, drop_last: bool = False) -> list[Tensor]:
        """Return one epoch's batches as positions within the part, shuffled if a generator is given.

        Raises:
            InputError: The part is empty, or `size` is not positive.
        """
        if len(self) == 0:
            raise InputError(f"the {self.name} part is empty; there is nothing to read")
        if size < 1:
            raise InputError(f"batch size {size}; needed: at least 1")
        positions = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        batches = list(positions.split(size))
        if drop_last and len(batches) > 1 and len(batches[-1]) < size:
            batches.pop()
        return batches

    def batches(
        self,
        size: int,
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        augment: Augment | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, labels) of one epoch.

        Args:
            size: Samples per batch, over all ranks together.
            device: Where both tensors are wanted.
            generator: Shuffles, and drives the augmentation; without it batches come in order.
            augment: Random crop and flip.
            drop_last: Leave out an incomplete last batch (unless it is the only one).
            rank: This process among `world`; it gets every `world`-th sample of each batch.
            world: Number of processes that share each batch.

        Yields:
            Inputs (B, *input_shape) as float32, labels (B,) as int64.
        """
        order = [b[rank::world] for b in self.order(size, generator, drop_last)]
        labels = self.labels.to(device)
        for positions, x in zip(order, self.read(order, device, augment, generator), strict=True):
            yield x, labels[positions.to(labels.device)]

    def read(
        self,
        order: Sequence[Tensor],
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the inputs of batches of positions within the part; see `Samples.read`."""
        indices = torch.from_numpy(self.indices)
        return self.samples.read([indices[b] for b in order], device=device, augment=augment, generator=generator)

    def tensors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return all inputs and labels at once: for parts that are known to be small."""
        (x,) = self.read([torch.arange(len(self))], device)
        return x, self.labels.to(device)
