"""Codes and how they are mixed in, by hand on twelve samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from efface.data import ArraySamples, Data, Part, Split
from efface.data.augment import Augment
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.mechanisms.codes import CodedPart, draw_codes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def part() -> Part:
    """Twelve samples of classes 0, 1 and 2; sample i is the number i, and no code is a whole number."""
    samples = ArraySamples(torch.arange(12.0)[:, None], np.arange(12) % 3)
    return Split.of(Data("twelve", samples, samples, tuple("abc")), validation=0).train


CODES = torch.tensor([[0.25], [2.25], [1.25]])
CLASSES = torch.tensor([0, 2, 1])


def test_codes_are_drawn_by_class_from_the_generator() -> None:
    x, y = draw_codes([4, 1], (2, 3), generator(), per_class=500)
    assert x.shape == (1000, 2, 3)
    assert x.dtype == torch.float32
    assert y.tolist() == [4] * 500 + [1] * 500
    assert y.dtype == torch.int64
    assert torch.equal(x, torch.rand(1000, 2, 3, generator=generator()))
    one, of = draw_codes(range(3), (5,), generator(), "normal")
    assert of.tolist() == [0, 1, 2]
    assert torch.equal(one, torch.randn(3, 5, generator=generator()))


def test_every_sample_becomes_the_code_of_its_class(part: Part) -> None:
    seen = list(CodedPart(part, CODES, CLASSES, 1.0, generator()).batches(Epoch(5, generator=generator(1))))
    assert [len(x) for x, _ in seen] == [5, 5, 2]
    for x, y in seen:
        assert torch.equal(x[:, 0], y + 0.25)
    assert len(CodedPart(part, CODES, CLASSES, 1.0, generator())) == 12


def test_without_a_share_the_batches_are_the_parts_own(part: Part) -> None:
    for settings in ({"drop_last": True}, {"rank": 1, "world": 2}, {"augment": Augment()}, {}):
        ours = CodedPart(part, CODES, CLASSES, 0.0, generator()).batches(Epoch(5, generator=generator(1), **settings))
        own = part.batches(Epoch(5, generator=generator(1), **settings))
        for (x, y), (z, w) in zip(ours, own, strict=True):
            assert torch.equal(x, z)
            assert torch.equal(y, w)


def test_half_and_half_keeps_order_and_labels(part: Part) -> None:
    """Which samples are replaced follows from the generator of the mixing alone."""
    order = part.order(Epoch(5, generator=generator(1)))
    coin = generator()
    masks = [torch.rand(len(b), generator=coin) < 0.5 for b in order]
    assert any(m.any() and not m.all() for m in masks)
    found = CodedPart(part, CODES, CLASSES, 0.5, generator()).batches(Epoch(5, generator=generator(1)))
    for (x, y), positions, mask in zip(found, order, masks, strict=True):
        labels = positions % 3
        assert torch.equal(y, labels)
        assert torch.equal(x[:, 0], torch.where(mask, labels + 0.25, positions.float()))


def test_several_codes_of_a_class_are_used_equally_often_and_noise_is_fresh(part: Part) -> None:
    codes, classes = draw_codes(range(3), (1,), generator(7), per_class=4)
    mixing = CodedPart(part, codes, classes, 1.0, generator())
    counts = torch.zeros(12)
    for _ in range(200):
        for x, y in mixing.batches(Epoch(12)):
            which = (x == codes.T).float().argmax(1)
            assert torch.equal(classes[which], y)
            counts += torch.bincount(which, minlength=12)
    # 2,400 draws over 12 codes: 200 each, standard deviation 12; four of them.
    assert ((counts - 200).abs() < 50).all()
    noisy = CodedPart(part, CODES, CLASSES, 1.0, generator(), noise=0.1)
    off = torch.cat([x[:, 0] - y - 0.25 for _ in range(100) for x, y in noisy.batches(Epoch(12))])
    # 1,200 draws: the standard deviation is known to 2 %, the mean to 0.003.
    assert float(off.std()) == pytest.approx(0.1, rel=0.1)
    assert abs(float(off.mean())) < 0.012
    assert len(off.unique()) > 1100


def test_what_is_drawn_comes_from_the_generator_alone(part: Part) -> None:
    codes, classes = draw_codes(range(3), (1,), generator(7), per_class=4)
    before = torch.get_rng_state()

    def epoch() -> Tensor:
        mixing = CodedPart(part, codes, classes, 0.7, generator(), noise=0.1)
        return torch.cat([x for x, _ in mixing.batches(Epoch(5, generator=generator(1)))])

    assert torch.equal(epoch(), epoch())
    assert torch.equal(torch.get_rng_state(), before)


def test_codes_of_owners_stand_in_for_their_records_which_keep_their_labels(part: Part) -> None:
    owners = torch.arange(12) % 2
    codes, of = torch.tensor([[1.5], [0.5]], dtype=torch.float64), torch.tensor([1, 0])
    epoch = Epoch(5, generator=generator(1))
    order = part.order(epoch)
    epoch = Epoch(5, generator=generator(1))
    for (x, y), positions in zip(
        CodedPart(part, codes, of, 1.0, generator(), owners=owners).batches(epoch), order, strict=True
    ):
        assert x.dtype == torch.float32
        assert torch.equal(x[:, 0], owners[positions] + 0.5)
        assert torch.equal(y, positions % 3)
    with pytest.raises(InputError, match=r"samples of owner \[1\], which has no code"):
        CodedPart(part, codes[1:], of[1:], 1.0, generator(), owners=owners)


def test_processes_share_the_batches_of_one(part: Part) -> None:
    def epoch(**where: int) -> list[tuple[Tensor, Tensor]]:
        mixing = CodedPart(part, CODES, CLASSES, 0.5, generator(), noise=0.01)
        return list(mixing.batches(Epoch(5, generator=generator(1), **where)))

    whole = epoch()
    for world in (2, 3):
        for rank in range(world):
            for (x, y), (z, w) in zip(epoch(rank=rank, world=world), whole, strict=True):
                assert torch.equal(x, z[rank::world])
                assert torch.equal(y, w[rank::world])


def test_what_does_not_fit_is_refused(part: Part) -> None:
    for share in (-0.1, 1.1):
        with pytest.raises(InputError, match=f"share of codes {share}; allowed: from 0 to 1"):
            CodedPart(part, CODES, CLASSES, share, generator())
    for codes, classes in ((torch.zeros(3, 2), CLASSES), (CODES, CLASSES[:2]), (CODES[:2], CLASSES)):
        with pytest.raises(InputError, match=r"do not fit inputs of shape \(1,\)"):
            CodedPart(part, codes, classes, 0.5, generator())
    with pytest.raises(InputError, match=r"samples of class \[2\], which has no code"):
        CodedPart(part, CODES[[0, 2]], CLASSES[[0, 2]], 0.5, generator())
    with pytest.raises(InputError, match=r"samples of class \[1\], which has no code"):
        CodedPart(part, CODES[:2], CLASSES[:2], 0.5, generator())
    assert len(CodedPart(part.take([]), CODES, CLASSES, 0.5, generator())) == 0
