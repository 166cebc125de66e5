"""The batch shrinks only as far as it must."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from efface.mechanisms.batch_size import fitting_batch


@given(st.integers(1, 100_000), st.integers(1, 512), st.integers(0, 200))
def test_published_batch_is_kept_wherever_it_gives_enough_steps(size: int, batch: int, steps: int) -> None:
    found = fitting_batch(size, batch, steps)
    assert 1 <= found <= batch
    if size // batch >= steps:
        assert found == batch
    if found < batch and found > 8:
        assert size // found >= steps
        assert math.floor(size / (found + 1)) < steps  # one more would be too many
