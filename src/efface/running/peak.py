"""The most memory that a piece of work takes above what was held before it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["Peak", "watched_memory"]

_RESIDENT = Path("/proc/self/statm")

_EVERY = 0.005  # seconds between two looks at a CPU's resident memory


class Peak:
    """What was seen, once the work is done.

    Attributes:
        taken: Bytes above those held before, at least 0; None where the system does not tell.
    """

    def __init__(self) -> None:
        self.taken: int | None = None


@contextmanager
def watched_memory(device: torch.device, every: float = _EVERY) -> Iterator[Peak]:
    """Watch the memory of the work inside: taken = max over the work of held(t) - held at its start, in bytes.

    On a GPU held is what torch has allocated there (its own peak counter, which is reset). On a CPU it is the resident
    memory of this process, read every few milliseconds from Linux's /proc; elsewhere nothing is known. A CPU's figure
    has limits: what is taken and given back between two looks is missed, other threads of the process count, and work
    that finds freed memory still in the process takes less than it would in a new one.

    Args:
        device: Where the work runs.
        every: Seconds between two looks.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.taken = max(0, torch.cuda.max_memory_allocated(device) - before)
        return
    if not _RESIDENT.exists():
        yield peak
        return
    before, done = _resident(), threading.Event()
    most = [before]

    def watch() -> None:
        while not done.wait(every):
            most[0] = max(most[0], _resident())

    watcher = threading.Thread(target=watch, daemon=True, name="efface-memory")
    watcher.start()
    try:
        yield peak
        most[0] = max(most[0], _resident())
    finally:
        done.set()
        watcher.join()
    peak.taken = max(0, most[0] - before)


def _resident() -> int:
    """Return the bytes of this process in memory."""
    return int(_RESIDENT.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
