"""Canaries: tests of forgetting whose null is known without any reference."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from scipy import stats
from torch import Tensor

from efface.auditing.measures.intervals import Interval
from efface.errors import InputError

__all__ = ["canary_scores", "canary_statistic", "fresh_band", "most_by_chance"]


def canary_scores(gradients: Tensor, noise: Tensor, epsilon: float) -> Tensor:
    """Return each canary's alignment with the noise that was once added to it.

    A record was trained with as x + xi, xi ~ N(0, epsilon^2 I). s = <g / ||g||, xi> / epsilon, g the gradient of the
    loss with respect to the clean input x. If the model does not depend on xi, s ~ N(0, 1): a unit direction against
    independent normal noise. A model that learned x + xi has a lower loss there: s is negative.

    Args:
        gradients: Shape (records, ...).
        noise: xi, of the same shape.
        epsilon: Its standard deviation, above 0.

    Returns:
        float64, shape (records,); 0 where the gradient vanishes.

    Raises:
        InputError: The shapes differ, there is no record, or epsilon is not positive.

    Source: arXiv 2406.17216.
    """
    if gradients.shape != noise.shape or not len(gradients) or epsilon <= 0:
        raise InputError(
            f"Each canary's gradient meets its own noise: got {tuple(gradients.shape)} and {tuple(noise.shape)}, "
            f"epsilon {epsilon}."
        )
    g, xi = gradients.double().flatten(1), noise.double().flatten(1)
    return (g * xi).sum(1) / (g.norm(dim=1).clamp_min(1e-300) * epsilon)


def canary_statistic(gradients: Tensor, noise: Tensor, epsilon: float, fresh: Iterable[Tensor]) -> float:
    """Return one number for all canaries, N(0, 1) if they are gone: the sum T of s, calibrated on fresh noise.

    The same sum for draws of noise that no training ever saw gives its mean and spread in practice; with them it is
    (T - mean) / spread. In theory they are 0 and sqrt(n); whether that holds in practice has been questioned.

    Args:
        gradients: Shape (records, ...).
        noise: The canaries' own, of the same shape.
        epsilon: Its standard deviation.
        fresh: Further draws of noise of that shape and standard deviation, at least two.

    Raises:
        InputError: As `canary_scores`, or fewer than two fresh draws.

    Source: arXiv 2406.17216.
    """
    own = canary_scores(gradients, noise, epsilon).sum()
    g = gradients.double().flatten(1)
    unit = g / (g.norm(dim=1, keepdim=True).clamp_min(1e-300) * epsilon)
    null = torch.tensor([float((unit * draw.double().flatten(1)).sum()) for draw in fresh], dtype=torch.float64)
    if len(null) < 2:
        raise InputError(f"Calibration needs two fresh draws of the noise or more; got {len(null)}.")
    return float((own - null.mean()) / null.std().clamp_min(1e-12))


def fresh_band(planted: int, sources: int, confidence: float) -> Interval:
    """Return where the AUC of planted against fresh canaries falls for a model that never saw either.

    Both are drawn in the same way, so that each planted one's rank among the fresh is uniform: 1/2 -+ z sd with
    sd^2 = (1/planted + 1/sources) / 12. Several labels of one record count as one fresh canary.

    Args:
        planted: Number of planted canaries.
        sources: Number of records of which fresh ones are copies.
        confidence: Share of such models inside.

    Raises:
        InputError: There is no canary of either kind.
    """
    if planted < 1 or sources < 1:
        raise InputError(f"{planted} planted canaries are compared with {sources} fresh ones; needed: one of each")
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * ((1 / planted + 1 / sources) / 12) ** 0.5
    return Interval(0.5, max(0.0, 0.5 - half), min(1.0, 0.5 + half))


def most_by_chance(planted: int, fpr: float, confidence: float) -> float:
    """Return the largest share of planted canaries that a model which never saw them has above the fresh quantile.

    Each lies among the highest `fpr` of fresh ones with that probability: k / n, k the smallest whole number with
    P[Binomial(n, fpr) > k] <= 1 - confidence.

    Args:
        planted: Number n of planted canaries, at least 1.
        fpr: Share of fresh canaries that lie higher.
        confidence: Share of such models that do not exceed it.
    """
    return float(stats.binom.isf(1 - confidence, planted, fpr)) / planted
