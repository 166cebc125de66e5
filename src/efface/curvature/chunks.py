"""What the engine reads: tensors or batches in chunks that fit a memory budget, and the checks before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from efface.errors import InputError

__all__ = [
    "MEMORY",
    "Batches",
    "Chunk",
    "ChunkSize",
    "chunks",
    "device_of",
    "require_eval",
    "require_finite",
    "require_labels",
]

Batches = Iterable[tuple[Tensor, Tensor]]

MEMORY = 512 * 2**20
"""Default budget, in bytes, for what the engine keeps of one chunk of samples (activations and per-sample blocks)."""

_CACHE, _ENOUGH = 48 * 2**20, 32  # tuned on two cores: some 500 samples of LeNet-5, 32 of ResNet-18

_FIRST_CHUNK_VALUES = 48 * 1024  # input values in the first, measured chunk: 16 images of 3x32x32, one of 224x224

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Chunk:
    """A few samples on the model's device.

    Attributes:
        x: Inputs (b, ...).
        y: Labels (b,).
        positions: Where they stand in the whole stream (b,), int64, on the CPU.
        uniform: Random numbers in [0, 1) that belong to these samples, (b, draws), or None.
    """

    x: Tensor
    y: Tensor
    positions: Tensor
    uniform: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class ChunkSize:
    """The number of samples processed at once, adapted to a memory budget after a small first chunk.

    chunk = clamp(memory / measured bytes per sample, 1, cap), so the peak above the model and the sums is at most
    `memory` + the bytes of one sample. On a CPU, chunks that stay near the caches are faster: with `cached`, no more
    than `_CACHE` bytes are taken at once, but still `_ENOUGH` samples if the budget allows.

    Args:
        memory: Budget in bytes.
        fixed: A chunk size that overrides the measurement.
        cap: Never more samples than this at once.
        cached: Prefer chunks that stay near the caches.
    """

    memory: int = MEMORY
    fixed: int | None = None
    cap: int = 4096
    cached: bool = False
    measured: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.memory < 1 or (self.fixed is not None and self.fixed < 1):
            raise InputError(
                f"memory={self.memory}, chunk={self.fixed}: a budget in bytes and a number of samples must be >= 1. "
                "Leave them out to use the defaults."
            )

    def current(self, x: Tensor) -> int:
        """Return how many samples like those in `x` to take next."""
        if self.fixed is not None:
            return self.fixed
        if self.measured is not None:
            return self.measured
        return max(1, min(self.cap, _FIRST_CHUNK_VALUES // max(1, x[0].numel())))

    def observe(self, samples: int, held: int) -> None:
        """Set the size from a first chunk of `samples` that held `held` bytes."""
        if self.measured is None:
            held = max(1, held)
            fitting = min(self.cap, self.memory * samples // held)
            if self.cached:
                fitting = min(fitting, max(_ENOUGH, _CACHE * samples // held))
            self.measured = max(1, fitting)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter."""
    for parameter in model.parameters():
        return parameter.device
    raise InputError("The model has no parameters. Pass the trained network itself.")


def chunks(
    model: nn.Module,
    data: Tensor | Batches,
    labels: Tensor | None,
    size: ChunkSize,
    *,
    rank: int = 0,
    world: int = 1,
    draws: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[Chunk]:
    """Yield the samples in order, on the model's device, in chunks of at most `size.current` samples.

    Args:
        model: Only its device is read.
        data: Inputs (n, ...) or an iterable of (inputs, labels) batches.
        labels: Labels (n,), int64, in [0, classes), when `data` is a tensor; otherwise None.
        size: Read before every chunk, so it may adapt while the chunks are consumed.
        rank: Yield only the samples whose position is `rank` modulo `world`.
        world: Number of processes that share the stream.
        draws: Random numbers per sample; they depend on the generator and the stream alone, not on chunk or rank.
        generator: Where they come from.

    Raises:
        InputError: Nothing to read, fewer samples than processes, lengths that differ, labels that are not integers.
    """
    if isinstance(data, Tensor):
        if labels is None:
            raise InputError("Inputs were given as a tensor without labels. Pass (model, x, y), or batches of (x, y).")
        batches: Batches = [(data, labels)]
    else:
        if labels is not None:
            raise InputError("Labels were given beside batches, which already hold them. Leave them out.")
        batches = data
    device, seen = device_of(model), 0
    for x, y in batches:
        _require_pairs(x, y)
        uniform = torch.rand(len(x), draws, generator=generator) if draws else None
        mine = slice((rank - seen) % world, None, world)
        positions = torch.arange(seen, seen + len(x))[mine]
        seen, x, y, uniform = seen + len(x), x[mine], y[mine], None if uniform is None else uniform[mine]
        first = 0
        while first < len(x):
            part = slice(first, first + size.current(x))
            some = None if uniform is None else uniform[part].to(device)
            yield Chunk(x[part].detach().to(device), y[part].long().to(device), positions[part], some)
            first = part.stop
    if seen < world:
        raise InputError(f"The set holds {seen} samples for {world} process(es). Pass at least one sample for each.")


def _require_pairs(x: Any, y: Any) -> None:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise InputError(f"Batches must be pairs of tensors, got ({type(x).__name__}, {type(y).__name__}).")
    if y.ndim != 1 or len(x) != len(y):
        raise InputError(f"Inputs {tuple(x.shape)} and labels {tuple(y.shape)} do not match. Labels must be (n,).")
    if y.dtype not in (torch.int64, torch.int32, torch.uint8):
        raise InputError(f"Labels are {y.dtype}, allowed are integers. Convert with y.long().")


def require_eval(model: nn.Module) -> None:
    """Raise unless every sample's output is a fixed function of that sample alone.

    Raises:
        InputError: A module in train mode (dropout, batch statistics), or BatchNorm without running statistics.
    """
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        if module.training:
            raise InputError(
                f"{label} is in train mode: dropout and batch statistics would make one sample's gradient depend on "
                "chance or on other samples. Call model.eval() first."
            )
        if isinstance(module, _BATCH_NORM) and module.running_mean is None:
            raise InputError(
                f"{label} has no running statistics and mixes the samples of a batch even in eval mode. "
                "Use track_running_stats=True, or GroupNorm."
            )


def require_finite(losses: Tensor, positions: Tensor) -> None:
    """Raise when a per-sample loss is NaN or infinite.

    Args:
        losses: Per-sample losses (b,).
        positions: Their positions in the stream (b,), for the message.

    Raises:
        InputError: Naming the first such sample.
    """
    bad = (~torch.isfinite(losses.detach())).nonzero()
    if len(bad):
        first = int(bad[0])
        value = float(losses.detach()[first])
        raise InputError(
            f"The loss of sample {int(positions[first])} is {value} ({len(bad)} such in this chunk). "
            "Check the inputs for NaN and the weights for divergence."
        )


def require_labels(labels: Tensor, classes: int) -> None:
    """Raise when a label is outside [0, classes).

    Raises:
        InputError: Naming the range found.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"Labels range from {low} to {high}, but the model has {classes} classes (0 to {classes - 1})."
        )
