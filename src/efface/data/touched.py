"""How many training samples a piece of work read, counted where parts hand them out: no reader can forget to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from efface.data.samples import Samples

__all__ = ["Times", "Touched", "count", "count_times", "counting", "tallying"]


class _Counter(Protocol):
    def add(self, samples: Samples, positions: Tensor) -> None: ...
    def add_times(self, samples: Samples, times: np.ndarray) -> None: ...


class Times:
    """Counts how often each training sample was read.

    Args:
        samples: The training set.

    Attributes:
        counts: By position (N,), int64.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.counts = np.zeros(len(samples), np.int64)

    def add(self, samples: Samples, positions: Tensor) -> None:
        """Count samples at these positions (int64, CPU, any shape) of a collection."""
        if samples is self._samples:
            self.counts += np.bincount(positions.numpy().ravel(), minlength=len(self.counts))

    def add_times(self, samples: Samples, times: np.ndarray) -> None:
        """Add what another process counted, by position."""
        if samples is self._samples:
            self.counts += times


class Touched:
    """Counts the training samples that parts hand out: one each time a sample's input is read.

    What is done with an input counts once however often it goes forward and backward: an attack of ten gradient steps
    on a batch touches the batch once, and inputs that a method keeps are not counted again. Samples of other sets
    (codes, noise images, test data) do not count.

    Args:
        samples: The training set.
        parts: Positions in it by the name of their part, e.g. `Split.positions`; a position counts for the last one.
    """

    def __init__(self, samples: Samples, parts: Mapping[str, np.ndarray]) -> None:
        self._samples, self._names = samples, tuple(parts)
        self._kinds = np.full(len(samples), len(parts), np.int8)
        for number, positions in enumerate(parts.values()):
            self._kinds[positions] = number
        self._counts = np.zeros(len(parts) + 1, np.int64)

    def add(self, samples: Samples, positions: Tensor) -> None:
        """Count samples at these positions (int64, CPU, any shape) of a collection."""
        if samples is self._samples:
            self._counts += np.bincount(self._kinds[positions.numpy().ravel()], minlength=len(self._counts))

    def add_times(self, samples: Samples, times: np.ndarray) -> None:
        """Add what another process counted, by position (N,)."""
        if samples is self._samples:
            self._counts += np.bincount(self._kinds, times, len(self._counts)).astype(np.int64)

    @property
    def counts(self) -> dict[str, int]:
        """Samples by the name of their part."""
        return dict(zip(self._names, self._counts[:-1].tolist(), strict=True))


_COUNTERS: ContextVar[tuple[_Counter, ...]] = ContextVar("counters", default=())


@contextmanager
def counting(samples: Samples, parts: Mapping[str, np.ndarray]) -> Iterator[Touched]:
    """Count what this thread reads of a training set; work inside of other counted work counts for both."""
    touched = Touched(samples, parts)
    token = _COUNTERS.set((*_COUNTERS.get(), touched))
    try:
        yield touched
    finally:
        _COUNTERS.reset(token)


def count(samples: Samples, positions: Tensor) -> None:
    """Count samples that are being handed out, for whoever is counting."""
    for touched in _COUNTERS.get():
        touched.add(samples, positions)


@contextmanager
def tallying(samples: Samples) -> Iterator[Times]:
    """Count what this thread reads of a training set, sample by sample, to hand it to another process."""
    times = Times(samples)
    token = _COUNTERS.set((*_COUNTERS.get(), times))
    try:
        yield times
    finally:
        _COUNTERS.reset(token)


def count_times(samples: Samples, times: np.ndarray) -> None:
    """Count what another process read, by position (N,), for whoever is counting here."""
    for counter in _COUNTERS.get():
        counter.add_times(samples, times)
