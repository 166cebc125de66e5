"""Numbers as text: one way to print a share, a time or an interval, in reports, figures and notebooks."""

from __future__ import annotations

__all__ = [
    "NOT_ASSESSED",
    "SPACE",
    "count",
    "counted",
    "duration",
    "interval",
    "memory",
    "number",
    "ratio",
    "sentence",
    "share",
]

NOT_ASSESSED = "not assessed"

SPACE = "\u00a0"
"""Between a number and its unit, so that a line never ends there."""

_MINUS = "\u2212"


def share(value: float) -> str:
    """Return a share as percent with one decimal, e.g. 0.973 as "97.3 %"; only an exact 0 or 1 is printed as such."""
    percent = 100 * value
    for edge in (0.0, 100.0):
        if percent != edge and f"{percent:.1f}" == f"{edge:.1f}":
            return ("< 0.1" if edge == 0 and percent > 0 else "> 99.9" if percent < edge else f"{percent:.1f}") + (
                f"{SPACE}%"
            )
    return f"{percent:.1f}{SPACE}%".replace("-", _MINUS)


def ratio(value: float) -> str:
    """Return a ratio with a times sign, e.g. "1,240×" or "0.93×"."""
    return f"{value:,.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def duration(seconds: float) -> str:
    """Return a time in the unit a person would choose, e.g. "0.4 ms", "12.3 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f}{SPACE}µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g}{SPACE}ms"
    if seconds < 99.95:
        return f"{seconds:.3g}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min" + (f" {rest}{SPACE}s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,}{SPACE}h" + (f" {minutes}{SPACE}min" if minutes else "")


def memory(size: float) -> str:
    """Return bytes in the unit a person would choose, e.g. "0 B", "640 KiB", "12.3 MiB", "1.40 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return (f"{size:.0f}" if unit == "B" or size >= 99.95 else f"{size:.3g}") + f"{SPACE}{unit}"
        size /= 1024
    return f"{size:,.0f}{SPACE}GiB" if size >= 99.95 else f"{size:.3g}{SPACE}GiB"


def count(value: int) -> str:
    """Return a whole number with thousands separated, e.g. "60,000"."""
    return f"{value:,}".replace("-", _MINUS)


def counted(value: int, one: str, many: str = "") -> str:
    """Return a number with what it counts, e.g. "1 image", "3 images", or "1 image is", "3 images are".

    Args:
        value: How many.
        one: What follows 1.
        many: What follows every other number; `one` with an s if it is left out.
    """
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


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
        text += f"{SPACE}nats" if unit == "nats" else ""
    return text.replace("-", _MINUS)


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Return "low to high" with the unit said once, or nothing if either end is missing."""
    if low is None or high is None:
        return ""
    first, last = number(low, unit), number(high, unit)
    if first == last:
        return first
    for suffix in (f"{SPACE}%", f"{SPACE}nats", "×"):
        if first.endswith(suffix) and last.endswith(suffix):
            return f"{first.removesuffix(suffix)} to {last}"
    return f"{first} to {last}"


def sentence(text: str, capital: bool = True) -> str:
    """Return text that starts with a capital letter, unless asked otherwise, and ends in a full stop."""
    text = text.strip()
    if capital and text[:1].islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
