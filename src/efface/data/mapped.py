"""Samples whose inputs lie in memory that processes share, under no name: nothing is left when the last one ends."""

from __future__ import annotations

import copy
import dataclasses
import mmap
import os
import pickle
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.data.data import Data
from efface.data.planted import PlantedSamples
from efface.data.samples import ArraySamples, DatasetSamples
from efface.data.split import Split

__all__ = ["MappedSamples", "mapped", "mapped_data", "not_sendable"]


class MappedSamples(ArraySamples):
    """The same samples as an `ArraySamples`, with the inputs in shared memory; pickling for a process moves a handle.

    The memory has no name (`memfd_create`; elsewhere a temporary file that is deleted as soon as it is open), so that
    no copy of data that is to be forgotten stays behind, even if every process is killed. Named shared memory would
    not do: containers often allow just 64 MB of it.

    Args:
        samples: What to copy there; not changed.
    """

    def __init__(self, samples: ArraySamples) -> None:
        self.__dict__.update(copy.copy(samples).__dict__)
        values = np.ascontiguousarray(samples.inputs.numpy())
        self._layout = (values.dtype.str, values.shape)
        self._handle = _nameless()
        with os.fdopen(os.dup(self._handle), "wb") as file:
            file.write(values.data)
        self._map()

    def _map(self) -> None:
        kind, shape = self._layout
        # Copy on write: torch warns about read-only arrays, and nobody writes.
        shared = mmap.mmap(self._handle, 0, access=mmap.ACCESS_COPY)
        self.inputs: Tensor = torch.from_numpy(np.frombuffer(shared, dtype=kind).reshape(shape))
        self._resident = {"cpu": self.inputs}
        self._affine = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the inputs."""
        own = {k: v for k, v in self.__dict__.items() if k not in {"inputs", "_resident", "_affine"}}
        return own | {"_handle": DupFd(self._handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the memory here."""
        self.__dict__.update(state | {"_handle": state["_handle"].detach()})
        self._map()

    def __del__(self) -> None:
        """Close the handle; the memory goes with the last process that maps it."""
        handle = self.__dict__.get("_handle")
        if isinstance(handle, int):
            os.close(handle)


def mapped(split: Split) -> Split:
    """Return a split whose data is `mapped_data`."""
    return dataclasses.replace(split, data=mapped_data(split.data))


def mapped_data(data: Data) -> Data:
    """Return data that can be sent to processes started by `multiprocessing` without copying its inputs.

    Args:
        data: Tensors in memory are copied once into shared memory; data of other kinds stays as it is, and is copied
            to each process. So is all data on systems without POSIX file handles.
    """
    if os.name != "posix":
        return data
    changed: dict[str, Any] = {}
    for name in ("train", "test"):
        samples = getattr(data, name)
        own = samples.samples if isinstance(samples, PlantedSamples) else samples
        if isinstance(own, ArraySamples):
            # Known now, the fingerprint travels along; a process need not read all inputs for it.
            assert own.fingerprint
            shared = MappedSamples(own)
            changed[name] = samples.over(shared) if isinstance(samples, PlantedSamples) else shared
    return dataclasses.replace(data, **changed)


def not_sendable(model: object, data: Data) -> str:
    """Return why a model, or data, cannot be sent to another process, or nothing."""
    both = data.train.samples if isinstance(data.train, PlantedSamples) else data.train, data.test
    own = [s.dataset for s in both if isinstance(s, DatasetSamples)]
    try:
        for value in (model, *own):
            pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("efface")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
