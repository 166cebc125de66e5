"""What a removal leaves behind, bounded, and what it costs of an (epsilon, delta) guarantee.

Source: Guo et al., ICML 2020 (arXiv 1911.03030), theorems 1 to 4; the tight bound is ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["budget", "factor", "official_bound", "spectral_norm", "spent_epsilon", "tight_bound", "worst_case"]

OFFICIAL = 1 / 4
"""Lipschitz constant of l'' in the paper and its code."""

THIRD_DERIVATIVE = 1 / (6 * math.sqrt(3))
"""Largest |l'''|, l''' = sigma (1 - sigma)(1 - 2 sigma) up to sign."""


def factor(delta: float, problems: int = 1) -> float:
    """Return c = sqrt(2 ln(1.5 / delta')), with delta' = delta / problems: their deltas add up to delta."""
    return math.sqrt(2 * math.log(1.5 * problems / delta))


def budget(sigma: float, epsilon: float, delta: float, problems: int = 1) -> float:
    """Return sigma epsilon / c: how large the residual norms of all removals may be together."""
    return sigma * epsilon / factor(delta, problems)


def spent_epsilon(spent: float, sigma: float, delta: float, problems: int = 1) -> float:
    """Return c spent / sigma: the epsilon that residual norms of this sum amount to; infinite without noise."""
    return factor(delta, problems) * spent / sigma if sigma > 0 else math.inf


def spectral_norm(gram: Tensor) -> float:
    """Return ‖X‖₂ from the eigenvalues of X^T X (d, d), rounded up (power iteration would come from below)."""
    return math.sqrt(float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0))) * (1 + 1e-9)


def official_bound(norm: float, delta: Tensor, answers: Tensor) -> Tensor:
    """Return beta = 1/4 ‖X'‖₂ ‖delta‖ ‖X' delta‖, (P,).

    Args:
        norm: ‖X'‖₂ of the remaining features, or more.
        delta: The steps (P, d).
        answers: X' delta, (n', P).
    """
    return OFFICIAL * norm * delta.norm(dim=1) * answers.norm(dim=0)


def tight_bound(norm: float, answers: Tensor) -> Tensor:
    """Return 1/2 max|l'''| ‖X'‖₂ (sum_i (x_i^T delta)⁴)^{1/2}, (P,): the Taylor integral with the exact constant.

    Args:
        norm: ‖X'‖₂ of the remaining features, or more.
        answers: X' delta, (n', P).
    """
    return 0.5 * THIRD_DERIVATIVE * norm * answers.square().norm(dim=0)


def worst_case(removed: int, lam: float, remaining: int) -> float:
    """Return 4 gamma m² / (lambda² n'), which no data exceeds."""
    return 4 * OFFICIAL * removed**2 / (lam**2 * remaining)
