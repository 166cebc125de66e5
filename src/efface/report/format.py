"""Scores as text: one way to print a number, an interval and a duration, on the page and in Markdown."""

from __future__ import annotations

from efface.auditing.catalogue import Measure
from efface.auditing.scores.score import Score

__all__ = [
    "NOT_ASSESSED",
    "count",
    "duration",
    "floor",
    "good",
    "interval",
    "memory",
    "number",
    "ratio",
    "sentence",
    "share",
    "value",
]

NOT_ASSESSED = "not assessed"

_SPACE = "\u00a0"  # between a number and its unit, so that a line never ends there

_MINUS = "\u2212"


def share(value: float) -> str:
    """Return a share as percent with one decimal, e.g. 0.973 as "97.3 %"; only an exact 0 or 1 is printed as such."""
    percent = 100 * value
    for edge in (0.0, 100.0):
        if percent != edge and f"{percent:.1f}" == f"{edge:.1f}":
            return ("< 0.1" if edge == 0 and percent > 0 else "> 99.9" if percent < edge else f"{percent:.1f}") + (
                f"{_SPACE}%"
            )
    return f"{percent:.1f}{_SPACE}%".replace("-", _MINUS)


def ratio(value: float) -> str:
    """Return a ratio with a times sign, e.g. "1,240×" or "0.93×"."""
    return f"{value:,.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def duration(seconds: float) -> str:
    """Return a time in the unit a person would choose, e.g. "0.4 ms", "12.3 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f}{_SPACE}µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g}{_SPACE}ms"
    if seconds < 99.95:
        return f"{seconds:.3g}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min" + (f" {rest}{_SPACE}s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,}{_SPACE}h" + (f" {minutes}{_SPACE}min" if minutes else "")


def memory(size: float) -> str:
    """Return bytes in the unit a person would choose, e.g. "0 B", "640 KiB", "12.3 MiB", "1.40 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return (f"{size:.0f}" if unit == "B" or size >= 99.95 else f"{size:.3g}") + f"{_SPACE}{unit}"
        size /= 1024
    return f"{size:,.0f}{_SPACE}GiB" if size >= 99.95 else f"{size:.3g}{_SPACE}GiB"


def count(value: int) -> str:
    """Return a whole number with thousands separated, e.g. "60,000"."""
    return f"{value:,}".replace("-", _MINUS)


def number(value: float | None, unit: str) -> str:
    """Return a value in its measure's unit, or "not assessed" for None.

    Args:
        value: The number.
        unit: One of `Measure.unit`.
    """
    if value is None:
        return NOT_ASSESSED
    if unit == "share":
        return share(value)
    if unit == "seconds":
        return duration(value)
    if unit == "bytes":
        return memory(value)
    if unit == "ratio":
        return ratio(value)
    if unit == "steps":
        text = f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
    else:
        text = (
            f"{value:#.3g}"
            if 0.001 <= abs(value) < 99.95
            else f"{value:.3g}"
            if abs(value) < 99.95
            else f"{value:,.0f}"
        )
        text += f"{_SPACE}nats" if unit == "nats" else ""
    return text.replace("-", _MINUS)


def value(score: Score, measure: Measure) -> str:
    """Return a score's value, with a sign before it where it is only a bound."""
    text = number(score.value, measure.unit)
    sign = {"at least": "≥", "at most": "≤", "": ""}[score.bound]
    return f"{sign}{_SPACE}{text}" if sign and score.measured else text


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Return "low to high" with the unit said once, or nothing if either end is missing."""
    if low is None or high is None:
        return ""
    first, last = number(low, unit), number(high, unit)
    if first == last:
        return first
    for suffix in (f"{_SPACE}%", f"{_SPACE}nats", "×"):
        if first.endswith(suffix) and last.endswith(suffix):
            return f"{first.removesuffix(suffix)} to {last}"
    return f"{first} to {last}"


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


def sentence(text: str, capital: bool = True) -> str:
    """Return text that starts with a capital letter, unless asked otherwise, and ends in a full stop."""
    text = text.strip()
    if capital and text[:1].islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
