"""Intervals: how far a score could be off, over examples, over seeds and for shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from efface.errors import InputError

__all__ = [
    "Interval",
    "bootstrap_counts",
    "bootstrap_mean",
    "paired_gap",
    "percentiles",
    "prediction_interval",
    "t_interval",
    "wilson",
]

_CELLS = 4_000_000


class Interval(NamedTuple):
    """A score and the two ends of its interval."""

    value: float
    low: float
    high: float


def _check_share(successes: float, n: int, confidence: float) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n} is no share; at least one example is needed.")
    _check_confidence(confidence)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; give a number between 0 and 1, e.g. 0.95.")


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Return a share with Wilson's score interval.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    Unlike p -+ z sqrt(p(1-p)/n) it has a width at p = 0 and p = 1.

    Args:
        successes: How many, 0 to n.
        n: Of how many, at least 1.
        confidence: Share of such intervals that hold the true value.

    Raises:
        InputError: If n is 0 or the successes are outside 0 to n.
    """
    _check_share(successes, n, confidence)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def t_interval(values: Tensor, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds with Student's interval, mean -+ t_{n-1} s / sqrt(n).

    Args:
        values: One score per seed, shape (seeds,).
        confidence: Share of such intervals that hold the true mean.

    Returns:
        With one seed only, both ends are NaN: one run says nothing about the spread.

    Raises:
        InputError: If there is no value.
    """
    return _student(values, confidence, lambda n: 1 / math.sqrt(n))


def prediction_interval(values: Tensor, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds with the interval in which one more seed falls, mean -+ t_{n-1} s sqrt(1 + 1/n).

    Given retrained models, this is the noise floor: where another retrained model would score.

    Args:
        values: One score per seed, shape (seeds,).
        confidence: Share of such intervals that hold the next value.

    Returns:
        With one seed only, both ends are NaN.

    Raises:
        InputError: If there is no value.
    """
    return _student(values, confidence, lambda n: math.sqrt(1 + 1 / n))


def _student(values: Tensor, confidence: float, factor: Callable[[int], float]) -> Interval:
    _check_confidence(confidence)
    wide = values.double().flatten()
    n = len(wide)
    if n == 0:
        raise InputError("There is no value to average; give the score of at least one seed.")
    mean = float(wide.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * float(wide.std()) * factor(n)
    return Interval(mean, mean - half, mean + half)


def bootstrap_counts(n: int, resamples: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield how often each example is drawn in each resample, in blocks that fit in memory.

    Args:
        n: Number of examples.
        resamples: Number of resamples, in total over all blocks.
        generator: Where the draws come from.

    Yields:
        Shape (block, n), float64, each row summing to n.
    """
    block = max(1, _CELLS // max(n, 1))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = torch.randint(n, (rows, n), generator=generator)
        yield torch.zeros(rows, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(rows, n, dtype=torch.float64))


def bootstrap_mean(
    values: Tensor, generator: torch.Generator, *, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Return a mean over examples with its percentile bootstrap interval.

    Args:
        values: One finite number per example, shape (examples,).
        generator: Where the resamples come from.
        resamples: How many.
        confidence: Share of such intervals that hold the true mean.

    Raises:
        InputError: If there is no example, or a value is not finite.
    """
    _check_confidence(confidence)
    wide = values.detach().cpu().double().flatten()
    if len(wide) == 0 or not bool(wide.isfinite().all()):
        raise InputError(f"The mean of {len(wide)} values is asked; at least one is needed, and all must be finite.")
    means = torch.cat([counts @ wide for counts in bootstrap_counts(len(wide), resamples, generator)]) / len(wide)
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(wide.mean()), low, high)


def paired_gap(ours: Tensor, theirs: Tensor, confidence: float = 0.95) -> Interval:
    """Return the difference of two accuracies on the same examples, with Bonett and Price's adjusted Wald interval.

    With n01, n10 the examples that only one side gets right and p = (n + 1) / (N + 2) each:
    (p10 - p01) -+ z sqrt((p10 + p01 - (p10 - p01)^2) / (N + 2)). It keeps a width when both sides agree everywhere.

    Args:
        ours: Correct or not, bool, shape (examples,).
        theirs: The same examples under the other model, bool, shape (examples,).
        confidence: Share of such intervals that hold the true difference.

    Raises:
        InputError: If the shapes differ or there is no example.
    """
    _check_confidence(confidence)
    if ours.shape != theirs.shape or ours.numel() == 0:
        raise InputError(
            f"A paired gap compares the same examples: got {tuple(ours.shape)} and {tuple(theirs.shape)} of them."
        )
    n = ours.numel()
    first, second = ours.bool(), theirs.bool()
    only_ours, only_theirs = int((first & ~second).sum()), int((~first & second).sum())
    p10, p01 = (only_ours + 1) / (n + 2), (only_theirs + 1) / (n + 2)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    half = z * math.sqrt(max(0.0, p10 + p01 - (p10 - p01) ** 2) / (n + 2))
    value = (only_ours - only_theirs) / n
    return Interval(value, max(-1.0, min(value, p10 - p01 - half)), min(1.0, max(value, p10 - p01 + half)))


def percentiles(value: float, draws: Tensor, confidence: float) -> Interval:
    """Return a value with the central interval of its bootstrap draws, widened to hold the value itself.

    Args:
        value: On the records themselves.
        draws: On the resamples, shape (resamples,).
        confidence: Share of the draws inside.
    """
    tail = (1 - confidence) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(value, min(low, value), max(high, value))
