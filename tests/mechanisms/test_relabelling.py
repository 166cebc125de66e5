"""Random labels and the epochs made of them (baselines.md section 7 check 7, salun.md section 7 check 5)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.data import ArraySamples, Augment, Part
from efface.data.epoch import Epoch
from efface.mechanisms.relabelling import LabelSet, Order, Relabelled, random_labels

LABELS = torch.arange(20_000) % 10


def parts(n_forget: int, n_retain: int) -> tuple[Part, Part]:
    """Samples whose single feature is their position."""
    n = n_forget + n_retain
    samples = ArraySamples(torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 2, 2), [1] * n)
    return Part("forget", samples, np.arange(n_forget)), Part("retain", samples, np.arange(n_forget, n))


def epochs(forget: Part, retain: Part, *, over: LabelSet = "others", fresh: bool = True, order: Order = "mixed"):
    return Relabelled(forget, retain, 10, over, (), fresh, order, torch.Generator().manual_seed(0))


def test_check_7_over_all_is_uniform_and_hits_the_true_class_one_time_in_k() -> None:
    drawn = random_labels(LABELS, 10, torch.Generator().manual_seed(0), "all")
    sigma = (0.1 * 0.9 / 20_000) ** 0.5
    share = torch.bincount(drawn, minlength=10) / 20_000
    assert (share - 0.1).abs().max() < 4 * sigma  # 10 classes: 4 sigma is passed by chance once in 1,600 seeds
    assert abs(float((drawn == LABELS).float().mean()) - 0.1) < 3 * sigma


def test_check_7_others_never_hits_the_true_class_and_is_uniform_over_the_rest() -> None:
    drawn = random_labels(LABELS, 10, torch.Generator().manual_seed(0), "others")
    assert not (drawn == LABELS).any()
    offset = torch.bincount((drawn - LABELS) % 10, minlength=10)[1:] / 20_000
    assert (offset - 1 / 9).abs().max() < 4 * (1 / 9 * 8 / 9 / 20_000) ** 0.5


@given(st.sets(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_kept_avoids_every_forgotten_class(forgotten: set[int], seed: int) -> None:
    labels = torch.tensor(sorted(forgotten)).repeat(200)
    drawn = random_labels(labels, 10, torch.Generator().manual_seed(seed), "kept", tuple(sorted(forgotten)))
    assert not set(drawn.tolist()) & forgotten
    assert set(drawn.tolist()) == set(range(10)) - forgotten  # 200 draws or more leave none of at most 9 out


def test_kept_equals_others_for_items_and_for_one_class() -> None:
    def draw(over: LabelSet, forgotten: tuple[int, ...], labels: torch.Tensor) -> torch.Tensor:
        return random_labels(labels, 10, torch.Generator().manual_seed(3), over, forgotten)

    assert torch.equal(draw("kept", (), LABELS), draw("others", (), LABELS))
    ones = torch.ones(500, dtype=torch.int64)
    assert torch.equal(draw("kept", (1,), ones), draw("others", (1,), ones))


@pytest.mark.parametrize("fresh", [False, True])
def test_check_7_fixed_labels_are_identical_over_epochs_and_fresh_ones_are_not(fresh: bool) -> None:
    part = epochs(*parts(100, 50), fresh=fresh)
    seen = []
    for epoch in range(3):
        shuffled = Epoch(32, generator=torch.Generator().manual_seed(epoch))
        x, y = map(torch.cat, zip(*part.batches(shuffled), strict=True))
        order = x[:, 0, 0, 0].argsort()
        seen.append(y[order][:100])
        assert (y[order][100:] == 1).all(), "retained samples keep their labels"
    assert torch.equal(seen[0], seen[1]) != fresh
    assert torch.equal(seen[1], seen[2]) != fresh


@pytest.mark.parametrize("order", ["mixed", "forget-first"])
@pytest.mark.parametrize("size", [32, 150])
def test_an_epoch_holds_every_sample_once_and_forget_first_means_first(order: Order, size: int) -> None:
    part = epochs(*parts(70, 75), order=order)
    batches = list(part.batches(Epoch(size, generator=torch.Generator().manual_seed(1))))
    x = torch.cat([x for x, _ in batches])[:, 0, 0, 0]
    assert len(batches) == -(-145 // size)
    assert x.sort().values.tolist() == list(range(145))
    assert (x[:70] < 70).all().item() == (order == "forget-first")
    assert x[:70].tolist() != sorted(x[:70].tolist()), "shuffled within the part"


def test_ranks_share_each_batch_and_augmentation_is_applied() -> None:
    whole = [x for x, _ in epochs(*parts(40, 24), order="forget-first").batches(Epoch(16, generator=seeded()))]
    shares = [
        [x for x, _ in epochs(*parts(40, 24), order="forget-first").batches(share)]
        for share in (Epoch(16, generator=seeded(), rank=r, world=2) for r in range(2))
    ]
    for i, batch in enumerate(whole):
        assert torch.equal(batch[::2], shares[0][i])
        assert torch.equal(batch[1::2], shares[1][i])
    cropped = [x for x, _ in epochs(*parts(40, 24)).batches(Epoch(16, generator=seeded(), augment=Augment(crop=1)))]
    assert any((x == 0).any() for x in cropped[1:])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)
