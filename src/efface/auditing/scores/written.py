"""Scores as text: a value with its bound, its noise floor, and which way is good."""

from __future__ import annotations

from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Score
from efface.words import SPACE, interval, number

__all__ = ["floor", "good", "value"]


def value(score: Score, measure: Measure) -> str:
    """Return a score's value, with a sign before it where it is only a bound."""
    text = number(score.value, measure.unit)
    sign = {"at least": "≥", "at most": "≤", "": ""}[score.bound]
    return f"{sign}{SPACE}{text}" if sign and score.measured else text


def floor(score: Score, measure: Measure) -> str:
    """Return the noise floor of a score, as an interval where there is one, or an empty string without one.

    An interval for a further model may reach beyond what a score can be; it is cut there.
    """
    low, high = (None if end is None else measure.clip(end) for end in (score.floor_low, score.floor_high))
    ends = interval(low, high, measure.unit)
    return ends or ("" if score.floor is None else number(score.floor, measure.unit))


def good(measure: Measure) -> str:
    """Return which way is good, in a few words."""
    named = {"reference": "as a retrained model's", "high": "high", "low": "low", "0.5": "50 % (chance)"}
    text = named.get(measure.best)
    if text is None:
        text = number(float(measure.best), measure.unit)
    return f"good: {text}"
