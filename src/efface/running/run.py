"""What a piece of work runs on: device, precision, randomness, progress, and the history that becomes plots."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import nn

from efface.errors import InputError
from efface.running.progress import Progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Backend", "History", "Precision", "Run"]

T = TypeVar("T")

M = TypeVar("M", bound=nn.Module)

Precision = Literal["32-true", "bf16-mixed"]

Backend = Literal["auto", "processes", "serial", "ray"]


class History:
    """Rows of named numbers, one per epoch or step, in the order they were added.

    Attributes:
        rows: Dictionaries with `stage` and whatever numbers were given.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, stage: str, **numbers: float) -> None:
        """Append one row."""
        self.rows.append({"stage": stage, **numbers})

    def of(self, stage: str) -> list[dict[str, Any]]:
        """Return the rows of one stage."""
        return [row for row in self.rows if row["stage"] == stage]


class Run:
    """Carries device, precision, seed, progress and history through one piece of work.

    Args:
        seed: Every random draw derives from it and a purpose; the global generator is never drawn from.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `32-true` or `bf16-mixed`.
        devices: Processes for data-parallel training; more than one needs a launcher such as torchrun.
        progress: Where progress is shown; nowhere by default.
        checkpoints: Folder in which trainings keep their state now and then, so that a stopped one can go on; none by
            default.
        backend: Where models that are trained apart are trained: `serial` (one by one, here), `processes`, `ray`, or
            `auto` (in processes where that pays).
        workers: Most of them at once; one per core if 0.

    Attributes:
        interim: Files in `checkpoints` that are of no more use once what was made is saved; children add to them.
        purpose: What is being made, such as a method with its settings: checkpoints of another purpose are not its.

    Raises:
        InputError: The device does not exist here.

    Example:
        >>> import efface
        >>> a, b = efface.Run(seed=1).generator("order"), efface.Run(seed=1).generator("order")
        >>> a.initial_seed() == b.initial_seed()
        True
    """

    def __init__(
        self,
        seed: int = 0,
        device: str = "auto",
        precision: Precision = "32-true",
        devices: int = 1,
        progress: Progress | None = None,
        checkpoints: Path | None = None,
        backend: Backend = "serial",
        workers: int = 0,
    ) -> None:
        self.seed = seed
        self.backend = backend
        self.workers = workers
        self.interim: list[Path] = []
        self.purpose = ""
        self.checkpoints = checkpoints
        self.precision = precision
        self.devices = devices
        self.progress = progress or Progress()
        self.history = History()
        self.notes: list[str] = []
        self.failures: list[str] = []
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = device.partition(":")[0]
        if kind not in {"cpu", "cuda"}:
            raise InputError(f"unknown device {device!r}; allowed: auto, cpu, cuda, cuda:N")
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {device!r} asked for, but torch sees no GPU; use cpu or auto")
        self._device = device

    @cached_property
    def fabric(self) -> Fabric:
        """Lightning Fabric for this device and precision, launched; one in a process for all equal runs."""
        return _launched(self._device, self.devices, self.precision)

    @property
    def device(self) -> torch.device:
        """The device that work runs on."""
        return self.fabric.device if self.devices > 1 else torch.device(self._device)

    def generator(self, purpose: str) -> torch.Generator:
        """Return a fresh CPU generator for a purpose: a pure function of the seed and the words."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def number(self, purpose: str) -> int:
        """Return a seed for code that takes a number, derived like `generator`."""
        return self.generator(purpose).initial_seed() & 0x7FFFFFFF

    def copied(self, model: M) -> M:
        """Return a deep copy of a model on this run's device; convolutions on a GPU get channels-last weights."""
        copied = copy.deepcopy(model).to(self.device)
        if self.device.type == "cuda" and any(isinstance(m, nn.Conv2d) for m in copied.modules()):
            copied = copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return copied

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items while showing progress and time left."""
        return self.progress.track(items, label, total)

    def note(self, text: str) -> None:
        """Keep a sentence for the record and show it."""
        self.notes.append(text)
        self.progress.note(text)

    def fail(self, text: str) -> None:
        """Note a sentence that says that the work did not do what it is for; see `Record.failures`."""
        self.failures.append(text)
        self.note(text)

    def child(self, seed: int | None = None) -> Run:
        """Return a run on the same device with its own history and, if given, another seed."""
        other = copy.copy(self)
        other.history = History()
        other.notes = []
        other.failures = []
        if seed is not None:
            other.seed = seed
        return other


@cache  # each one asks all installed packages for plug-ins, as long as a few steps of a small network take
def _launched(device: str, devices: int, precision: Precision) -> Fabric:
    from lightning_fabric import Fabric

    kind, _, index = device.partition(":")
    chosen: Any = [int(index)] if index else devices
    fabric = Fabric(accelerator=kind, devices=chosen, precision=precision, strategy="ddp" if devices > 1 else "auto")
    fabric.launch()
    return fabric
