"""Indexable collections of (input, label): tensors that live on the device, or any torch Dataset."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efface.data.augment import Augment
from efface.errors import InputError

__all__ = ["ArraySamples", "DatasetSamples", "Samples"]


class Samples(Dataset[tuple[Tensor, int]], ABC):
    """A training or test set: labels known at once, inputs read in batches of positions.

    A map-style dataset as well: `samples[i]` is the network input (*input_shape) as float32, and its class number.

    Attributes:
        labels: Class numbers, int64 on the CPU, shape (N,).
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one sample as a network sees it; a negative index counts from the end.

        Raises:
            IndexError: There is no such sample.
        """
        position = range(len(self))[index]
        (x,) = self.read([torch.tensor([position])])
        return x[0], int(self.labels[position])

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over what identifies the samples and their order; equal collections share it."""

    @abstractmethod
    def read(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the network inputs of each batch of positions.

        Args:
            batches: Position tensors (int64, CPU), one per batch; an empty one yields an empty batch.
            device: Where the inputs are wanted.
            augment: Random crop and flip, if any; needs `generator`.
            generator: Source of the augmentation's randomness.

        Yields:
            float32 tensors (B, *input_shape), normalised.
        """


class ArraySamples(Samples):
    """Inputs in one tensor: uint8 pixels (N, C, H, W), scaled to [0, 1] on reading, or float features of any shape.

    The tensor moves to a device once, when first asked for there, if it takes less than half of the device's free
    memory; otherwise batches are moved one by one.

    Args:
        inputs: uint8 or floating array or tensor.
        labels: Integer class numbers, shape (N,).
        mean: Per-channel mean subtracted after scaling, or None.
        std: Per-channel divisor after the mean, or None.

    Raises:
        InputError: Lengths differ, labels are not whole numbers from 0, or inputs hold NaN or infinity.
    """

    def __init__(
        self,
        inputs: np.ndarray | Tensor,
        labels: np.ndarray | Tensor | Sequence[int],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        x = torch.as_tensor(inputs)
        if x.dtype != torch.uint8:
            if not x.is_floating_point():
                raise InputError(f"inputs are {x.dtype}; allowed: uint8 pixels or floating-point features")
            x = x.to(torch.float32)
            bad = ~torch.isfinite(x).flatten(1).all(dim=1) if x.ndim > 1 else ~torch.isfinite(x)
            if bad.any():
                raise InputError(
                    f"{int(bad.sum())} samples hold NaN or infinity, the first at position {int(bad.nonzero()[0])}; "
                    "repair or drop them"
                )
        self.inputs = x.contiguous()
        self.labels = _checked_labels(labels, len(x))
        self.mean, self.std = (None if v is None else tuple(float(e) for e in v) for v in (mean, std))
        channels = x.shape[1] if x.ndim > 1 else 1
        for given in (self.mean, self.std):
            if given is not None and len(given) not in (1, channels):
                raise InputError(f"mean and std have {len(given)} entries; allowed: 1 or {channels} (channels)")
        self._resident: dict[str, Tensor] = {"cpu": self.inputs}
        self._affine: dict[str, tuple[Tensor, Tensor] | None] = {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return tuple(self.inputs.shape[1:])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of inputs, labels and normalisation."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256(repr((self.inputs.dtype, self.inputs.shape, self.mean, self.std)).encode())
            digest.update(self.inputs.numpy().data)
            digest.update(self.labels.numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def read(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield normalised batches; see `Samples.read`."""
        source = self._on(torch.device(device))
        for positions in batches:
            x = source.index_select(0, positions.to(source.device)).to(device)
            if augment is not None and len(positions):
                if generator is None:
                    raise ValueError("augmentation needs a generator")
                x = augment(x, generator)
            yield self._normalised(x)

    def _on(self, device: torch.device) -> Tensor:
        key = str(device)
        if key not in self._resident:
            free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
            fits = self.inputs.nbytes < free / 2
            self._resident[key] = self.inputs.to(device) if fits else self.inputs.pin_memory()
        return self._resident[key]

    def _normalised(self, x: Tensor) -> Tensor:
        """Compute (x / 255 - mean) / std as one multiplication and one addition."""
        key = str(x.device)
        if key not in self._affine:
            scale = 1 / 255 if x.dtype == torch.uint8 else 1.0
            if scale == 1.0 and self.mean is None and self.std is None:
                self._affine[key] = None
            else:
                shape = (-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else (-1,)
                std = torch.tensor(self.std or (1.0,), dtype=torch.float64).reshape(shape)
                mean = torch.tensor(self.mean or (0.0,), dtype=torch.float64).reshape(shape)
                self._affine[key] = ((scale / std).float().to(x.device), (-mean / std).float().to(x.device))
        affine = self._affine[key]
        x = x.to(torch.float32)
        if affine is None:
            return x
        slope, offset = affine
        return x.mul_(slope) if self.mean is None else x.mul_(slope).add_(offset)


class DatasetSamples(Samples):
    """Any map-style `torch.utils.data.Dataset` of (input tensor, label) pairs, read through DataLoader workers.

    The dataset does its own decoding, normalisation and augmentation; Efface's `Augment` is still applied if asked.

    Args:
        dataset: Map-style dataset with a length.
        labels: All labels, if known; otherwise `dataset.targets`, then `dataset.labels`, then one pass over it.
        workers: DataLoader worker processes.
        name: How errors call it.

    Raises:
        InputError: The dataset has no length, yields no (tensor, label) pairs, or labels are not whole numbers.
    """

    def __init__(
        self, dataset: Dataset[Any], labels: Sequence[int] | None = None, workers: int = 0, name: str = "dataset"
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"{name} has no length or cannot be indexed; give a map-style torch Dataset")
        self.dataset = dataset
        self.workers = workers
        self.name = name
        size = len(dataset)
        if size == 0:
            raise InputError(f"{name} is empty")
        first = dataset[0]
        if not (isinstance(first, tuple | list) and len(first) == 2 and isinstance(first[0], Tensor)):
            raise InputError(
                f"{name} yields {type(first).__name__}; needed: pairs (input tensor, label). "
                "Add a ToTensor-like transform"
            )
        self._shape = tuple(first[0].shape)
        if labels is None:
            labels = getattr(dataset, "targets", None)
        if labels is None:
            labels = getattr(dataset, "labels", None)
        if labels is None:
            labels = [int(dataset[i][1]) for i in range(size)]
        self.labels = _checked_labels(labels, size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return self._shape

    @property
    def fingerprint(self) -> str:
        """SHA-256 of class, shape and labels only: a lazy set is not read in full, and its transforms may be random."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256(f"{type(self.dataset).__qualname__} {self._shape} {len(self)}".encode())
            digest.update(self.labels.numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def read(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield collated inputs; see `Samples.read`."""
        wanted = [b.tolist() for b in batches if len(b)]
        loader = DataLoader(
            _Inputs(self.dataset, self.name),
            batch_sampler=wanted,
            num_workers=self.workers,
            pin_memory=torch.device(device).type == "cuda",
            # DataLoader draws its workers' base seed: not from the global generator, nor from ours, whose draws
            # must be those that an array in memory would get.
            generator=torch.Generator().manual_seed(0 if generator is None else generator.initial_seed()),
        )
        loaded = iter(loader)
        for positions in batches:
            if len(positions) == 0:
                yield torch.empty(0, *self._shape, device=device)
                continue
            x = next(loaded).to(device, torch.float32, non_blocking=True)
            if augment is not None:
                if generator is None:
                    raise ValueError("augmentation needs a generator")
                x = augment(x, generator)
            yield x


class _Inputs(Dataset[Tensor]):
    """The inputs of a dataset of pairs, checked to be finite."""

    def __init__(self, dataset: Dataset[Any], name: str) -> None:
        self.dataset = dataset
        self.name = name

    def __getitem__(self, index: int) -> Tensor:
        x: Tensor = self.dataset[index][0]
        if x.is_floating_point() and not torch.isfinite(x).all():
            raise InputError(f"{self.name}: sample {index} holds NaN or infinity; repair or drop it")
        return x


def _checked_labels(labels: np.ndarray | Tensor | Sequence[int], size: int) -> Tensor:
    y = torch.as_tensor(np.asarray(labels) if not isinstance(labels, Tensor) else labels)
    if y.ndim != 1 or len(y) != size:
        raise InputError(f"labels have shape {tuple(y.shape)}; needed: ({size},), one per sample")
    if y.is_floating_point() or y.dtype == torch.bool:
        raise InputError(f"labels are {y.dtype}; needed: whole class numbers from 0")
    if size and int(y.min()) < 0:
        raise InputError(f"labels reach down to {int(y.min())}; needed: class numbers from 0")
    return y.to(torch.int64).cpu()
