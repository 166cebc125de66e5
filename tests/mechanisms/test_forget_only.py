"""Training on the data to forget alone: one sample and BatchNorm, and a class that was left in place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.data import ArraySamples, Data, Split
from efface.errors import InputError
from efface.mechanisms.forget_only import note_if_left, require_more_than_one
from efface.request import Request
from efface.running.run import Run


def split_of(labels: list[int]) -> Split:
    samples = ArraySamples(torch.eye(len(labels)), labels)
    return Split.of(Data("rows", samples, samples, ("a", "b")), Request.of(classes=[0]), validation=0)


def test_a_single_sample_is_refused_where_statistics_would_be_made_of_it() -> None:
    normalised, plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), nn.Sequential(nn.Linear(3, 2))
    one, two = split_of([0, 1, 1]).forget, split_of([0, 0, 1]).forget
    with pytest.raises(InputError, match=r"some method trains on the forget data alone.*or use another"):
        require_more_than_one("some method", normalised, one, False, "another")
    require_more_than_one("some method", normalised, one, True, "another")
    require_more_than_one("some method", normalised, two, False, "another")
    require_more_than_one("some method", plain, one, False, "another")


@pytest.mark.parametrize(("right", "noted"), [(1, False), (2, True)])
def test_more_than_a_tenth_left_in_place_is_noted(right: int, noted: bool) -> None:
    """Of ten rows of class 0, `right` are answered so."""
    split, run, model = split_of([0] * 10 + [1]), Run(device="cpu"), nn.Linear(11, 2, bias=False)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1, :10] = 1
        model.weight[0, :right] = 2
    note_if_left("some method", model.eval(), split.forget, 1e-4, run)
    said = [n for n in run.notes if "still recognised; raise lr (0.0001)" in n]
    assert bool(said) == noted
