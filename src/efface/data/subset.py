"""Some samples of a collection, as a collection of their own."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from efface.data.augment import Augment
from efface.data.samples import Samples
from efface.data.split import Split

__all__ = ["SubSamples", "held_out_as_test"]


class SubSamples(Samples):
    """A view of some positions of a collection; nothing is copied.

    Args:
        samples: The whole collection.
        indices: Positions in it, int64, in the wanted order.
    """

    def __init__(self, samples: Samples, indices: np.ndarray) -> None:
        self.samples = samples
        self.indices = torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        self.labels = samples.labels[self.indices]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return self.samples.input_shape

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of the network's inputs."""
        return self.samples.input_dtype

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole collection's fingerprint and the positions."""
        return hashlib.sha256(self.samples.fingerprint.encode() + self.indices.numpy().tobytes()).hexdigest()

    def read(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the inputs of each batch of positions within the view; see `Samples.read`."""
        chosen = [self.indices[batch] for batch in batches]
        return self.samples.read(chosen, device=device, augment=augment, generator=generator)


def held_out_as_test(split: Split) -> Split:
    """Return the split with its held-out training samples in the place of the test set, which is not there any more.

    So a search can ask an audit's questions, which need unseen records, without reading test data.

    Args:
        split: With a validation part.
    """
    test = SubSamples(split.data.train, split.validation.indices)
    kinds = frozenset({"forget", "retain", "validation", "test"})
    # The test set's groups leave with it: they only count records of a request, which has been done.
    return dataclasses.replace(split, data=dataclasses.replace(split.data, test=test, test_groups=None), allowed=kinds)
