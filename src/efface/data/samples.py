"""Indexable collections of (input, label): tensors that live on the device, or any torch Dataset."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efface.data.augment import Augment
from efface.data.labels import class_numbers
from efface.errors import InputError
from efface.words import counted

__all__ = ["ArraySamples", "DatasetSamples", "Samples", "Select"]

Select = Callable[[Any], tuple[Tensor, Any]]
"""From whatever a dataset yields for one sample to (input tensor, label)."""


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
    def input_dtype(self) -> torch.dtype:
        """Type of the network's inputs: float32, or int64 for token ids."""
        return torch.float32

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
            Tensors (B, *input_shape) of `input_dtype`, normalised if float32.
        """


class ArraySamples(Samples):
    """Inputs in one tensor.

    uint8 pixels (N, C, H, W) are scaled to [0, 1] on reading; floats of any shape pass as float32; other integers are
    token ids and pass as int64.

    The tensor moves to a device once, when first asked for there, if it takes less than half of the device's free
    memory; otherwise batches are moved one by one.

    Args:
        inputs: Array or tensor, at least two-dimensional; the first axis counts the samples.
        labels: Class numbers, shape (N,); see `class_numbers`.
        mean: Per-channel mean subtracted after scaling, or None.
        std: Per-channel divisor after the mean, or None.

    Raises:
        InputError: Lengths differ, labels are not class numbers, or inputs are no numbers, have no axis beside that of
            the samples, or hold NaN or infinity.
    """

    def __init__(
        self,
        inputs: np.ndarray | Tensor,
        labels: np.ndarray | Tensor | Sequence[int],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        x = _tensor(inputs)
        if x.is_floating_point():
            x = x.to(torch.float32)
            bad = ~torch.isfinite(x).flatten(1).all(dim=1)
            if bad.any():
                raise InputError(
                    f"{counted(int(bad.sum()), 'sample holds', 'samples hold')} NaN or infinity, the first at "
                    f"position {int(bad.nonzero()[0])}; "
                    "repair what is broken, or leave it out"
                )
        self.inputs = x.contiguous()
        self.labels = class_numbers(labels, len(x))
        self.mean, self.std = (None if v is None else tuple(float(e) for e in v) for v in (mean, std))
        if x.dtype == torch.int64 and (self.mean or self.std):
            raise InputError("integer inputs are token ids, which have no mean and std; give floats or uint8 pixels")
        channels = x.shape[1]
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
    def input_dtype(self) -> torch.dtype:
        """Type of the network's inputs: float32, or int64 for token ids."""
        return torch.int64 if self.inputs.dtype == torch.int64 else torch.float32

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
        if x.dtype == torch.int64:
            return x
        key = str(x.device)
        if key not in self._affine:
            scale = 1 / 255 if x.dtype == torch.uint8 else 1.0
            if scale == 1.0 and self.mean is None and self.std is None:
                self._affine[key] = None
            else:
                shape = (-1, *[1] * (x.ndim - 2))
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
        labels: All labels, if known; otherwise `dataset.targets`, then `dataset.labels` (both only without `select`),
            then one pass over it.
        workers: DataLoader worker processes.
        name: How errors call it.
        select: From what the dataset yields to (input tensor, label), where that is more than a pair.

    Raises:
        InputError: The dataset has no length, yields no (tensor, label) pairs, or labels are not class numbers.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        labels: Sequence[int] | None = None,
        workers: int = 0,
        name: str = "dataset",
        select: Select | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"{name} has no length or cannot be indexed; give a map-style torch Dataset")
        self.dataset = dataset
        self.workers = workers
        self.name = name
        self.select = select
        size = len(dataset)
        if size == 0:
            raise InputError(f"{name} is empty")
        first, label = self._pair(0)
        self._shape = tuple(first.shape)
        self._dtype = torch.int64 if _is_ids(first) else torch.float32
        if not self._shape:
            raise InputError(f"{name}: inputs are single numbers; give them an axis of features: input.reshape(1)")
        if labels is None and select is None:
            labels = getattr(dataset, "targets", None)
            labels = getattr(dataset, "labels", None) if labels is None else labels
        if labels is None:
            class_numbers([label], 1, name)  # a wrong kind is told before the whole set is read
            labels = [self._pair(i)[1] for i in range(size)]
        self.labels = class_numbers(labels, size, name)

    def _pair(self, index: int) -> tuple[Tensor, Any]:
        return _selected(self.dataset, index, self.select, self.name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return self._shape

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of the network's inputs: float32, or int64 for token ids."""
        return self._dtype

    def __getitem__(self, index: int) -> Any:
        """Return one sample: with a selector, as the dataset itself yields it; else as a network sees it.

        Raises:
            IndexError: There is no such sample.
        """
        if self.select is None:
            return super().__getitem__(index)
        return self.dataset[range(len(self))[index]]

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
            _Inputs(self.dataset, self.select, self.name),
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
                yield torch.empty(0, *self._shape, device=device, dtype=self._dtype)
                continue
            x = next(loaded).to(device, self._dtype, non_blocking=True)
            if augment is not None:
                if generator is None:
                    raise ValueError("augmentation needs a generator")
                x = augment(x, generator)
            yield x


class _Inputs(Dataset[Tensor]):
    """The inputs of a dataset of pairs, checked to be finite."""

    def __init__(self, dataset: Dataset[Any], select: Select | None, name: str) -> None:
        self.dataset = dataset
        self.select = select
        self.name = name

    def __getitem__(self, index: int) -> Tensor:
        x = _selected(self.dataset, index, self.select, self.name)[0]
        if x.is_floating_point() and not torch.isfinite(x).all():
            raise InputError(f"{self.name}: sample {index} holds NaN or infinity; repair or drop it")
        return x.detach()


def _selected(dataset: Dataset[Any], index: int, select: Select | None, name: str) -> tuple[Tensor, Any]:
    """Return (input, label) of one sample.

    Raises:
        InputError: It is no such pair; what it is is said.
    """
    sample = dataset[index]
    if select is not None:
        try:
            sample = select(sample)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{name}: the selector fails on sample {index}, which is {_in_words(dataset[index])}: "
                f"{type(error).__name__}: {error}"
            ) from error
    if isinstance(sample, tuple | list) and len(sample) == 2 and isinstance(sample[0], Tensor):
        return sample[0], sample[1]
    how = "Make its first part a tensor, e.g. with torchvision's ToTensor as the dataset's transform"
    if isinstance(sample, Mapping):
        a, b, *_ = [*map(repr, sample), "'input'", "'label'"]
        how = f"Say which: select=lambda sample: (sample[{a}], sample[{b}])"
    elif isinstance(sample, tuple | list) and len(sample) > 2:
        how = "Say which: select=lambda sample: (sample[0], sample[1])"
    raise InputError(f"{name} yields {_in_words(sample)}; needed: pairs (input tensor, label). {how}")


def _in_words(sample: object) -> str:
    if isinstance(sample, Mapping):
        return f"dictionaries with the keys {', '.join(map(repr, sample))}"
    if isinstance(sample, tuple | list):
        kinds = ", ".join(type(v).__name__ for v in sample)
        return f"{type(sample).__name__}s of {len(sample)} ({kinds})"
    return type(sample).__name__


def _is_ids(x: Tensor) -> bool:
    return not x.is_floating_point() and x.dtype not in (torch.uint8, torch.bool)


def _tensor(inputs: object) -> Tensor:
    """Return inputs as a tensor of float, uint8 or int64, apart from any graph."""
    try:
        # Torch cannot view an array turned round; what is not contiguous is copied below in any case.
        x = torch.as_tensor(np.ascontiguousarray(inputs) if isinstance(inputs, np.ndarray) else inputs).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"inputs cannot be made one tensor of numbers: {error}") from None
    if x.is_complex() or x.dtype == torch.bool:
        raise InputError(f"inputs are {x.dtype}; allowed: uint8 pixels, floating-point features, integer token ids")
    if x.ndim < 2:
        raise InputError(
            f"inputs have shape {tuple(x.shape)}: single numbers without an axis of features; give shape (N, 1): "
            "inputs.reshape(-1, 1)"
        )
    return x.to(torch.int64) if _is_ids(x) else x
