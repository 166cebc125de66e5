"""Subnormal numbers are flushed within the block, and only there."""

from __future__ import annotations

import pytest
import torch

from efface.running.subnormal import flushed


def survives() -> bool:
    """Return whether a product below the smallest normal number is kept."""
    return bool(torch.full((1,), 1e-30).mul(1e-10).ne(0))


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")
@pytest.mark.parametrize("before", [False, True])
def test_flushed_within_the_block_as_before_after_it(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with flushed():
            assert not survives()
        assert survives() is not before
        with pytest.raises(KeyError), flushed():
            raise KeyError
        assert survives() is not before
    finally:
        torch.set_flush_denormal(False)
