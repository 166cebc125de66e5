"""Parts: indices into samples, their batches, other labels, and joins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.data import ArraySamples, Augment, Part
from efface.data.epoch import Epoch
from efface.errors import InputError

N = 40
SAMPLES = ArraySamples(torch.arange(N, dtype=torch.float32)[:, None], torch.arange(N) % 4)


def part(*indices: int) -> Part:
    return Part("some", SAMPLES, np.array(indices, dtype=np.int64))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=N), st.integers(1, 50), st.integers(0, 99) | st.none())
@settings(max_examples=50, deadline=None)
def test_an_epoch_holds_every_sample_once_with_its_label(indices: list[int], size: int, seed: int | None) -> None:
    some = part(*indices)
    batches = list(some.batches(Epoch(size, generator=None if seed is None else seeded(seed))))
    assert [len(y) for _, y in batches[:-1]] == [size] * (len(batches) - 1)
    x, y = (torch.cat(column) for column in zip(*batches, strict=True))
    assert x.shape == (len(indices), 1)
    assert y.tolist() == [int(v) % 4 for v in x[:, 0]]
    if seed is None:
        assert x[:, 0].tolist() == indices
    else:
        assert sorted(x[:, 0].tolist()) == sorted(indices)
    assert torch.equal(torch.cat([x for x, _ in some.batches(Epoch(size))]), some.tensors()[0])


def test_order_depends_on_the_generator_alone() -> None:
    def first(seed: int) -> list[int]:
        return next(iter(part(*range(N)).batches(Epoch(N, generator=seeded(seed)))))[1].tolist()

    assert first(1) == first(1) != first(2)


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_ranks_share_each_batch_between_them(n: int, size: int, world: int) -> None:
    some = part(*(i % N for i in range(n)))
    whole = [x for x, _ in some.batches(Epoch(size, generator=seeded()))]
    shares = [[x for x, _ in some.batches(Epoch(size, generator=seeded(), rank=r, world=world))] for r in range(world)]
    for i, batch in enumerate(whole):
        for r in range(world):
            assert torch.equal(shares[r][i], batch[r::world])


def test_drop_last_leaves_out_an_incomplete_batch_unless_it_is_the_only_one() -> None:
    def sizes(n: int) -> list[int]:
        return [len(y) for _, y in part(*range(n)).batches(Epoch(8, drop_last=True))]

    assert sizes(20) == [8, 8]
    assert sizes(16) == [8, 8]
    assert sizes(5) == [5]


def test_taking_parts_of_parts() -> None:
    some = part(5, 9, 20, 33).take([3, 1])
    assert some.indices.tolist() == [33, 9]
    assert some.name == "some"
    assert part(*range(N)).of_class(1, 3).labels.unique().tolist() == [1, 3]
    drawn = part(*range(0, N, 2)).sample(7, seeded())
    assert len(drawn) == 7
    assert drawn.indices.tolist() == sorted(set(drawn.indices.tolist()))
    assert part(1, 2).sample(5, seeded()).indices.tolist() == [1, 2]


@given(st.lists(st.integers(0, N - 1), max_size=N))
@settings(max_examples=50, deadline=None)
def test_positions_of_all_classes_are_those_of_each(indices: list[int]) -> None:
    some = part(*indices)
    found = some.by_class()
    assert sorted(found) == sorted(set(some.labels.tolist()))
    for c, positions in found.items():
        assert some.indices[positions].tolist() == some.of_class(c).indices.tolist()


def test_relabelled_keeps_samples_and_changes_labels_everywhere() -> None:
    other = torch.tensor([7, 8, 9, 7])
    some = part(5, 9, 20, 33).relabelled(other)
    assert torch.equal(some.labels, other)
    assert part(5, 9, 20, 33).labels.tolist() == [1, 1, 0, 1]
    assert some.take([2, 0]).labels.tolist() == [9, 7]
    assert some.of_class(7).indices.tolist() == [5, 33]
    for x, y in some.batches(Epoch(3, generator=seeded())):
        assert [dict(zip([5, 9, 20, 33], [7, 8, 9, 7], strict=True))[int(v)] for v in x] == y.tolist()
    with pytest.raises(InputError, match=r"needed: \(4,\)"):
        some.relabelled(torch.zeros(3))


def test_joined_keeps_both_labels() -> None:
    both = part(1, 2).relabelled(torch.tensor([9, 9])).joined(part(3))
    assert both.indices.tolist() == [1, 2, 3]
    assert both.labels.tolist() == [9, 9, 3]
    other = Part("other", ArraySamples(torch.zeros(2, 1), [0, 1]), np.arange(2))
    with pytest.raises(InputError, match="different samples"):
        part(1).joined(other)


def test_empty_parts_and_bad_sizes_are_refused_with_the_parts_name() -> None:
    with pytest.raises(InputError, match="the some part is empty"):
        list(part().batches(Epoch(4)))
    with pytest.raises(InputError, match="batch size 0"):
        list(part(1).batches(Epoch(0)))


def test_augmented_batches_differ_by_epoch_and_agree_by_seed() -> None:
    images = Part("images", ArraySamples(torch.rand(30, 1, 6, 6), [0] * 30), np.arange(30))

    def epoch(seed: int) -> torch.Tensor:
        augmented = Epoch(8, generator=seeded(seed), augment=Augment(crop=2, flip=True))
        return torch.cat([x for x, _ in images.batches(augmented)])

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    with pytest.raises(ValueError, match="generator"):
        list(images.batches(Epoch(8, augment=Augment(crop=2))))
