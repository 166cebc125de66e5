"""Augmentation of a batch equals a loop over its samples with the same draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efface.data import Augment
from efface.errors import InputError


def one_by_one(x: Tensor, crop: int, flip: bool, seed: int) -> Tensor:
    """The same, written out: draw all offsets, then all flips, then treat each image alone."""
    g = torch.Generator().manual_seed(seed)
    n, _, h, w = x.shape
    tops, lefts = torch.randint(2 * crop + 1, (2, n), generator=g) if crop else torch.zeros(2, n, dtype=torch.int64)
    flips = torch.rand(n, generator=g) < 0.5 if flip else torch.zeros(n, dtype=torch.bool)
    images = []
    for i in range(n):
        canvas = torch.zeros(x.shape[1], h + 2 * crop, w + 2 * crop, dtype=x.dtype)
        canvas[:, crop : crop + h, crop : crop + w] = x[i]
        image = canvas[:, tops[i] : tops[i] + h, lefts[i] : lefts[i] + w]
        images.append(image.flip(2) if flips[i] else image)
    return torch.stack(images)


@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 4), st.booleans(),
    st.integers(0, 1000), st.sampled_from([torch.uint8, torch.float32]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equals_a_loop_over_samples(
    n: int, channels: int, h: int, w: int, crop: int, flip: bool, seed: int, dtype: torch.dtype
) -> None:
    x = torch.randint(1, 255, (n, channels, h, w), generator=torch.Generator().manual_seed(seed)).to(dtype)
    before = x.clone()
    made = Augment(crop=crop, flip=flip)(x, torch.Generator().manual_seed(seed))
    assert made.dtype == dtype
    assert torch.equal(made, one_by_one(x, crop, flip, seed))
    assert torch.equal(x, before), "the input was changed"


def test_every_offset_and_both_orientations_occur_equally_often() -> None:
    x = torch.zeros(18_000, 1, 3, 3)
    x[:, 0, 1, 1] = 1
    x[:, 0, 1, 2] = 2
    made = Augment(crop=1, flip=True)(x, torch.Generator().manual_seed(0))
    where = (made == 1).flatten(1).float()
    share = where.mean(0)
    # The marked pixel lands on each of 9 places with probability 1/9; 4 sigma of 18,000 draws.
    assert (share - 1 / 9).abs().max() < 4 * (1 / 9 * 8 / 9 / 18_000) ** 0.5


def test_features_that_are_no_images_pass_unchanged() -> None:
    x = torch.rand(5, 7)
    assert Augment(crop=2, flip=True)(x, torch.Generator()) is x


def test_off_by_default_and_checked() -> None:
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(Augment()(x, torch.Generator()), x)
    with pytest.raises(InputError, match="greater than or equal to 0"):
        Augment(crop=-1)
