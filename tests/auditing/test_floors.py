"""Floors beside scores, by hand."""

import math

import pytest

from efface.auditing.catalogue import MEASURES
from efface.auditing.floors import Floors
from efface.auditing.scores.score import Score

FLOORS = Floors({"test_accuracy": [0.4, 0.5, 0.6], "tow": [0.9], "retain_accuracy": [0.8], "aus": [-3.0, -1.0]})


def test_a_floor_is_the_mean_with_the_interval_of_one_more_model():
    scores = {key: Score(value=0.7) for key in ("test_accuracy", "tow", "retain_accuracy", "forget_accuracy", "aus")}
    found = FLOORS.beside(scores, 0.9)
    assert list(found) == list(scores)
    # arcsin sqrt of 0.4, 0.5, 0.6: mean pi / 4, deviation 0.1007; t of 2 degrees at 90 % is 2.92, times sqrt(4 / 3).
    accuracy = found["test_accuracy"]
    half = (math.asin(math.sqrt(0.6)) - math.pi / 4) * 2.9200 * math.sqrt(4 / 3)
    assert accuracy.floor == pytest.approx(0.5)
    ends = [math.sin(math.pi / 4 + side * half) ** 2 for side in (-1, 1)]
    assert (accuracy.floor_low, accuracy.floor_high) == pytest.approx(ends, abs=1e-4)
    # One pair is a floor for what compares two retrained models, and its spread is unknown; one model is none.
    assert (found["tow"].floor, found["tow"].floor_low, found["tow"].floor_high) == (0.9, None, None)
    assert found["retain_accuracy"] == Score(value=0.7)
    assert found["forget_accuracy"] == Score(value=0.7)
    # Mean -2, deviation sqrt(2), t of 1 degree at 90 % is 6.3138: AUS alone may lie below zero.
    assert found["aus"].floor_low == pytest.approx(-2 - 6.3138 * math.sqrt(2 * 1.5), abs=1e-3)


def test_a_floor_that_is_known_already_stays():
    known = {"test_accuracy": Score(value=0.7, floor=0.1, floor_low=0.0, floor_high=0.2), "tow": Score(value=0.5)}
    found = FLOORS.beside(known, 0.5)
    assert found["test_accuracy"] == known["test_accuracy"]
    assert found["tow"].floor == 0.9


def test_bands_of_none_one_and_several_models():
    assert all(math.isnan(x) for x in FLOORS.band("forget_accuracy", 0.9))
    one = FLOORS.band("tow", 0.9)
    assert one.value == 0.9
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    several = FLOORS.band("test_accuracy", 0.5)
    assert several.value == pytest.approx(0.5)
    assert several.low < several.value < several.high
    steps = Floors({"relearn_steps": [10.0, 14.0]}).band("relearn_steps", 0.5)
    # Mean 12, deviation sqrt(8), times sqrt(1.5): 12 -+ 3.46, rounded outwards.
    assert tuple(steps) == (12, 8, 16)


def test_ends_stay_within_what_a_score_can_be():
    assert [MEASURES["test_accuracy"].clip(x) for x in (-0.5, 0.5, 1.5)] == [0, 0.5, 1]
    assert [MEASURES["separation"].clip(x) for x in (-0.5, 0.5, 1.5)] == [0, 0.5, 1.5]
    assert MEASURES["aus"].clip(-0.5) == -0.5
