"""The one place in the package that seeds PyTorch's global generator, and that puts it back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int | torch.Generator) -> Iterator[None]:
    """Run a block with PyTorch's global generator at `seed`, and restore the caller's state when it ends.

    Modules draw their initial weights from the global generator and accept no other; this is how they get them from a
    seed of their own without the caller's random numbers changing. CUDA's generators take part once CUDA is in use.

    Args:
        seed: The seed, or a generator of which one number is drawn as the seed.
    """
    number = seed if isinstance(seed, int) else int(torch.randint(2**62, (), generator=seed, device=seed.device))
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would also leave a seed behind for CUDA to start from, where CUDA is not in use yet.
        torch.default_generator.manual_seed(number)
        if cuda:
            torch.cuda.manual_seed_all(number)
        yield
