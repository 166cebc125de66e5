"""Samples whose inputs lie in a file that processes map into memory: shared by all, read from disk once."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.data.samples import ArraySamples
from efface.data.split import Split

__all__ = ["MappedSamples", "mapped"]


class MappedSamples(ArraySamples):
    """The same samples as an `ArraySamples`, with the inputs in a .npy file; pickling moves only its path.

    Shared memory would do as well, but containers often allow just 64 MB of it.

    Args:
        samples: What to write; not changed.
        file: The .npy file to make; it must outlive every process that maps it.
    """

    def __init__(self, samples: ArraySamples, file: Path) -> None:
        self.__dict__.update(copy.copy(samples).__dict__)
        self.file = file
        np.save(file, samples.inputs.numpy(), allow_pickle=False)
        self._map()

    def _map(self) -> None:
        # Copy on write: torch warns about read-only arrays, and nobody writes.
        self.inputs: Tensor = torch.from_numpy(np.load(self.file, mmap_mode="c", allow_pickle=False))
        self._resident = {"cpu": self.inputs}
        self._affine = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the inputs."""
        return {k: v for k, v in self.__dict__.items() if k not in {"inputs", "_resident", "_affine"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file again."""
        self.__dict__.update(state)
        self._map()


def mapped(split: Split, folder: Path) -> Split:
    """Return a split that can be sent to other processes without copying its inputs.

    Args:
        split: Tensors in memory are written to `folder`; data of other kinds stays as it is.
        folder: An existing folder, to be deleted when the processes have ended.
    """
    changed: dict[str, Any] = {}
    for name in ("train", "test"):
        samples = getattr(split.data, name)
        if isinstance(samples, ArraySamples):
            # Known now, the fingerprint travels along; a process need not read all inputs for it.
            assert samples.fingerprint
            changed[name] = MappedSamples(samples, folder / f"{name}.npy")
    return dataclasses.replace(split, data=dataclasses.replace(split.data, **changed))
