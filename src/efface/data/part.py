"""A named part of a data set: indices into its samples, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from efface.data.epoch import Epoch
from efface.data.labels import sorted_by_class
from efface.data.samples import Samples
from efface.data.touched import count
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

    def by_class(self) -> dict[int, np.ndarray]:
        """Return the positions within this part of each class that it holds, in order; found in one pass."""
        labels = self.labels.numpy()
        order = sorted_by_class(labels)
        classes, starts = np.unique(labels[order], return_index=True)
        return dict(zip(classes.tolist(), np.split(order, starts)[1:], strict=True))

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

    def order(self, epoch: Epoch) -> list[Tensor]:
        """Return one epoch's whole batches as positions within the part.

        Raises:
            InputError: The part is empty.
        """
        if len(self) == 0:
            raise InputError(f"the {self.name} part is empty; there is nothing to read")
        return epoch.order(len(self))

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, labels) of one epoch.

        Yields:
            Inputs (B, *input_shape) as float32, labels (B,) as int64.

        Raises:
            InputError: The part is empty.
        """
        order = [epoch.share(b) for b in self.order(epoch)]
        labels = self.labels.to(epoch.device)
        for positions, x in zip(order, self.read(order, epoch), strict=True):
            yield x, labels[positions.to(labels.device)]

    def read(self, order: Sequence[Tensor], epoch: Epoch) -> Iterator[Tensor]:
        """Yield the inputs of these batches of positions within the part, on the epoch's device and augmented by it."""
        indices = torch.from_numpy(self.indices)
        wanted = [indices[b] for b in order]
        inputs = self.samples.read(wanted, device=epoch.device, augment=epoch.augment, generator=epoch.generator)
        for positions, x in zip(wanted, inputs, strict=True):
            count(self.samples, positions)
            yield x

    def tensors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return all inputs and labels at once: for parts that are known to be small."""
        positions = torch.from_numpy(self.indices)
        (x,) = self.samples.read([positions], device=device)
        count(self.samples, positions)
        return x, self.labels.to(device)
