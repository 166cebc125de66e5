"""Samples are counted where parts hand them out: each reading once, by kind, whatever way the part was made."""

import numpy as np
import pytest
import torch

from efface.data import Epoch, Part, Split, load
from efface.data.touched import count_times, counting, tallying
from efface.mechanisms.codes import CodedPart, draw_codes
from efface.request import Request


@pytest.fixture(scope="module")
def split():
    return Split.of(load("digits"), Request.of(classes=[3]))


def read(part, size=64):
    return sum(len(x) for x, _ in part.batches(Epoch(size)))


def test_each_reading_counts_once_by_kind(split):
    with counting(split.data.train, split.positions) as touched:
        assert touched.counts == {"forget": 0, "retain": 0, "validation": 0}
        read(split.forget), read(split.forget, 7)
        split.retain.take([0, 5, 5]).tensors()
        read(split.validation.sample(10, torch.Generator()))
    assert touched.counts == {"forget": 2 * len(split.forget), "retain": 3, "validation": 10}


def test_it_goes_by_position_not_by_the_parts_name(split):
    mixed = split.forget.joined(split.retain).relabelled(torch.zeros(len(split.train), dtype=torch.int64))
    by_hand = Part("something", split.data.train, np.concatenate([split.forget.indices[:4], split.retain.indices[:2]]))
    with counting(split.data.train, split.positions) as touched:
        read(mixed), read(by_hand)
    assert touched.counts == {"forget": len(split.forget) + 4, "retain": len(split.retain) + 2, "validation": 0}


def test_what_is_never_read_does_not_count(split):
    codes, classes = draw_codes(range(10), split.data.input_shape, torch.Generator())
    with counting(split.data.train, split.positions) as touched:
        read(CodedPart(split.train, codes, classes, share=1.0, generator=torch.Generator()))
        assert len(split.retain.labels) == len(split.retain)
        assert split.retain.order(Epoch(8))
        read(split.test)  # no training data
    assert sum(touched.counts.values()) == 0
    batches = split.retain.batches(Epoch(8))
    with counting(split.data.train, split.positions) as touched:
        next(batches), next(batches)
    assert touched.counts["retain"] == 16


def test_counted_work_inside_of_counted_work_counts_for_both_and_nothing_counts_outside(split):
    with counting(split.data.train, split.positions) as outer:
        read(split.forget)
        with counting(split.data.train, split.positions) as inner:
            read(split.forget)
        read(split.forget)
    read(split.forget)
    assert (outer.counts["forget"], inner.counts["forget"]) == (3 * len(split.forget), len(split.forget))


def test_what_another_process_read_counts_as_if_it_were_read_here(split):
    with counting(split.data.train, split.positions) as here:
        read(split.forget), split.retain.take([0, 5, 5]).tensors()
    with tallying(split.data.train) as there:
        read(split.forget), split.retain.take([0, 5, 5]).tensors(), read(split.test)
    assert there.counts.sum() == len(split.forget) + 3
    with counting(split.data.train, split.positions) as touched, tallying(split.data.train) as again:
        count_times(split.data.train, there.counts)
        count_times(split.data.test, there.counts)
    assert touched.counts == here.counts
    assert (again.counts == there.counts).all()
