"""Some samples of a collection."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from efface.data import Split, load
from efface.data.subset import SubSamples, held_out_as_test
from efface.request import Request


def test_a_view_reads_its_own_positions_in_its_own_order():
    whole = load("digits").train
    view = SubSamples(whole, np.array([7, 3, 3, 900]))
    assert len(view) == 4
    assert view.labels.tolist() == whole.labels[[7, 3, 3, 900]].tolist()
    (first, second) = view.read([torch.tensor([3, 0]), torch.tensor([1])])
    expected = torch.cat(list(whole.read([torch.tensor([900, 7])])))
    torch.testing.assert_close(first, expected, rtol=0, atol=0)
    torch.testing.assert_close(second[0], whole[3][0], rtol=0, atol=0)
    assert view.input_shape == whole.input_shape


def test_its_fingerprint_depends_on_samples_and_positions():
    data = load("digits")
    marks = {SubSamples(s, np.array(i)).fingerprint for s in (data.train, data.test) for i in ([1, 2], [2, 1], [1, 3])}
    assert len(marks) == 6


@pytest.mark.parametrize("request_", [Request(classes=(3,)), Request(items=tuple(range(0, 200, 2)))])
def test_held_out_data_takes_the_place_of_the_test_set(request_):
    digits = load("digits")
    data = dataclasses.replace(digits, test_groups=np.arange(len(digits.test)))  # of another length than held-out data
    split = Split.of(data, request_)
    seen = held_out_as_test(split.only(("forget", "retain", "validation"), "a search"))
    held = split.validation
    assert len(seen.test) == len(held)
    torch.testing.assert_close(seen.test.tensors()[0], held.tensors()[0], rtol=0, atol=0)
    assert set(seen.test_retain.labels.tolist()) <= set(split.retain_classes)
    for part in ("forget", "retain", "validation"):
        assert getattr(seen, part).indices.tolist() == getattr(split, part).indices.tolist()
