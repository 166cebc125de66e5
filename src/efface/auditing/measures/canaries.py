"""Gaussian canaries: a test of forgetting whose null is known without any reference."""

from __future__ import annotations

from torch import Tensor

from efface.errors import InputError

__all__ = ["canary_scores", "canary_statistic"]


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


def canary_statistic(gradients: Tensor, noise: Tensor, epsilon: float, fresh: Tensor) -> float:
    """Return one number for all canaries, N(0, 1) if they are gone: the sum T of s, calibrated on fresh noise.

    The same sum for draws of noise that no training ever saw gives its mean and spread in practice; with them it is
    (T - mean) / spread. In theory they are 0 and sqrt(n); whether that holds in practice has been questioned.

    Args:
        gradients: Shape (records, ...).
        noise: The canaries' own, of the same shape.
        epsilon: Its standard deviation.
        fresh: Further noise of that standard deviation, shape (draws, records, ...), at least two draws.

    Raises:
        InputError: As `canary_scores`, or fewer than two fresh draws.

    Source: arXiv 2406.17216.
    """
    if fresh.ndim != noise.ndim + 1 or len(fresh) < 2:
        raise InputError(f"Calibration needs two fresh draws of the noise or more; got shape {tuple(fresh.shape)}.")
    own = canary_scores(gradients, noise, epsilon).sum()
    repeated = gradients.expand(fresh.shape).flatten(0, 1)
    null = canary_scores(repeated, fresh.flatten(0, 1), epsilon).reshape(len(fresh), -1).sum(1)
    return float((own - null.mean()) / null.std().clamp_min(1e-12))
