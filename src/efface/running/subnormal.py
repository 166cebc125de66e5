"""Numbers too small for a normal float: computing with them is a hundred times slower, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["flushed"]


@contextmanager
def flushed() -> Iterator[None]:
    """Run a block in which the processor takes numbers below 1.2e-38 for zero, where it can; then as before.

    Weights that a method damped, and activations behind them, sink there while they are trained again. The setting is
    the calling thread's; threads of PyTorch's that start within the block take it over.
    """
    before = _flushes()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes() -> bool:
    smallest = torch.full((1,), torch.finfo(torch.float32).tiny)
    return not bool(smallest.mul(0.5).ne(0))
