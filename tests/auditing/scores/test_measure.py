"""What a measure can be, and the band of its noise within that."""

import math

import pytest
import torch

from efface.auditing.measures.bands import band, pair_band
from efface.auditing.scores.measure import Measure

SPREAD = torch.tensor([0.2, 0.5, 0.6, 0.9])


def measure(unit="number", **changes):
    return Measure(key="x", group="utility", title="X", reading="What x is.", unit=unit, best="low", **changes)


@pytest.mark.parametrize(
    ("made", "ends"),
    [
        (measure(), (0, math.inf)),
        (measure(least=None), (-math.inf, math.inf)),
        (measure(most=3), (0, 3)),
        (measure("share"), (0, 1)),
        (measure("share", most=7), (0, 1)),
    ],
)
def test_ends_are_cut_to_what_the_score_can_be(made, ends):
    assert made.ends == ends
    assert (made.clip(-9), made.clip(9)) == (max(-9, ends[0]), min(9, ends[1]))
    assert made.clip(0.5) == 0.5


def test_a_band_is_that_of_the_measures_own_scale_and_within_its_ends():
    assert measure(least=None).band(SPREAD, 0.9) == band(SPREAD, 0.9)
    assert measure("share").band(SPREAD, 0.9) == band(SPREAD, 0.9, scale="share")
    assert measure(least=None, scale="size").band(SPREAD, 0.9) == band(SPREAD, 0.9, scale="size")
    assert measure(least=None, compares=True).band(SPREAD[:3], 0.9) == pair_band(SPREAD[:3], 0.9)
    wide = band(SPREAD, 0.99)
    assert wide.low < 0
    assert tuple(measure(most=1).band(SPREAD, 0.99)) == (wide.value, 0, 1)
    alike = torch.full((4,), 0.5)
    assert measure().band(alike, 0.9) == (0.5, 0.5, 0.5)
    assert measure().band(alike, 0.9, least=0.01) == band(alike, 0.9, least=0.01)
    assert measure().band(alike, 0.9, least=0.01).high > 0.5


def test_whole_steps_have_at_least_the_spread_of_rounding_and_whole_ends():
    alike = torch.full((4,), 20.0)
    plain = band(alike, 0.9, least=12**-0.5)  # the deviation of what is lost by rounding
    assert plain.high - 20 == pytest.approx(20 - plain.low)
    assert 0 < plain.high - 20 < 1
    assert measure("steps").band(alike, 0.9) == (20, 19, 21)
    # Student's t of 3 degrees at 99 % is 5.84: 5.84 sqrt(1/12 (1 + 1/4)) = 1.89.
    assert measure("steps").band(alike, 0.99) == (20, 18, 22)
    broad = band(alike, 0.9, least=3.0)
    assert tuple(measure("steps").band(alike, 0.9, least=3.0)) == (20, math.floor(broad.low), math.ceil(broad.high))
    drawn = torch.tensor([3.0, 5.0, 8.0, 12.0])
    assert tuple(measure("steps").band(drawn, 0.9)) == (7, 0, math.ceil(band(drawn, 0.9).high))


@pytest.mark.parametrize("unit", ["steps", "share", "number"])
def test_one_value_has_no_band(unit):
    found = measure(unit).band(torch.tensor([0.25]), 0.9)
    assert found.value == 0.25
    assert math.isnan(found.low)
    assert math.isnan(found.high)
