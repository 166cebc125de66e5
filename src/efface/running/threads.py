"""How many threads PyTorch computes with: the order of its sums, and so the last bits, may depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

__all__ = ["one_thread", "threads"]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Compute with one thread while the block runs, as a process of `efface.running.engines` does."""
    return threads(1)
