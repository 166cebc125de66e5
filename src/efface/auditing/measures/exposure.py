"""How far each record's margin lies from what models that never saw it give."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.auditing.measures.klom import CLIP
from efface.errors import InputError

__all__ = ["NEAREST", "PRIOR", "deviations", "deviations_beside_unseen", "largest"]

PRIOR = 4.0
"""Degrees of freedom that the variance shared by all records counts for, beside the models - 1 of each record's own."""

NEAREST = 200
"""Unseen margins that say how far two models lie apart where one of them expects a given margin."""

LEAST_SPREAD = 1e-3
"""Differences of margins below this are no spread, but rounding."""


def deviations(candidate: Tensor, retrained: Tensor) -> tuple[Tensor, Tensor, str]:
    """Return how far each record's margin lies from what models that never saw it give.

    With N > 1 retrained models: (m - mean) / (s sqrt(1 + 1/N)) with the moderated variance
    s^2 = (4 shared + (N - 1) own) / (4 + N - 1) and s at least 0.001; with one: m - m_r. Margins are clipped at -+100.

    Args:
        candidate: Margins, shape (records,).
        retrained: Margins of models never trained on these records, shape (models, records).

    Returns:
        The deviations, the expected margins, both of shape (records,), and what the deviations are, in words.

    Raises:
        InputError: If there is no retrained model or shapes differ.

    Source: The variance is that of Smyth's moderated t (2004), with a fixed prior.
    """
    if retrained.ndim != 2 or len(retrained) == 0 or retrained.shape[1:] != candidate.shape:
        raise InputError(
            f"Each record is compared with models that never saw it: got {tuple(retrained.shape)} margins for "
            f"{tuple(candidate.shape)} records."
        )
    m, r = candidate.double().clamp(-CLIP, CLIP), retrained.double().clamp(-CLIP, CLIP)
    expected = r.mean(0)
    if len(r) == 1:
        return m - expected, expected, "margin above the retrained model's"
    own, degrees = r.var(0), len(r) - 1
    variance = (PRIOR * own.mean() + degrees * own) / (PRIOR + degrees)
    sigma = variance.sqrt().clamp_min(LEAST_SPREAD) * (1 + 1 / len(r)) ** 0.5
    return (m - expected) / sigma, expected, f"standard deviations from the mean of {len(r)} retrained models"


def largest(values: Tensor) -> float:
    """Return the value of largest size, with its sign.

    Args:
        values: Shape (records,), at least one.
    """
    return float(values[values.abs().argmax()])


def deviations_beside_unseen(forget: Tensor, expected: Tensor, unseen: Tensor, unseen_expected: Tensor) -> Tensor:
    """Return each forget record's deviation over the one that the largest of as many unseen margins would show.

    v_x = d_x / (s_x q), d the difference of two models' margins and s_x the mean |d| of the 200 unseen margins whose
    expectation is nearest to x's, each at least 0.001: models differ more on records that they answer wrongly. q is the
    n / (n + 1) quantile of |d| / s over these neighbours of all n forget records. The largest is near 1 in size if
    neither model saw any.

    Args:
        forget: Differences of two models' margins on the forget records, shape (n,).
        expected: The other model's margins there, shape (n,).
        unseen: The differences for inputs and labels that neither model saw, shape (m,).
        unseen_expected: The other model's margins there, shape (m,).

    Raises:
        InputError: There is no margin of either kind, or the models agree on all unseen ones.
    """
    if not len(forget) or not len(unseen):
        raise InputError("the largest deviation is compared with that of unseen records; there are none")
    order = unseen_expected.argsort()
    if not bool(unseen.any()):
        raise InputError("both models give the same margins on unseen records")
    levels, sizes = unseen_expected[order].double(), unseen[order].double().abs().clamp_min(LEAST_SPREAD)
    near = min(NEAREST, len(sizes))
    sums = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])

    def neighbours(margins: Tensor) -> tuple[Tensor, Tensor]:
        first = (torch.searchsorted(levels, margins.double()) - near // 2).clamp(0, len(sizes) - near)
        return first, (sums[first + near] - sums[first]) / near

    first, spread = neighbours(expected)
    times = torch.zeros(len(sizes) + 1, dtype=torch.int64)
    times.scatter_add_(0, first, torch.ones_like(first)).scatter_add_(0, first + near, -torch.ones_like(first))
    relative, order = (sizes / neighbours(levels)[1]).sort()
    counted = times.cumsum(0)[:-1][order].cumsum(0)
    n = len(forget)
    q = relative[torch.searchsorted(counted, -(-n * n * near // (n + 1)))]
    return forget.double() / (spread * q)
