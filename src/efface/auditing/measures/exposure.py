"""How far each record's margin lies from what models that never saw it give."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.auditing.measures.klom import CLIP
from efface.errors import InputError

__all__ = ["PRIOR", "deviations", "largest", "largest_beside_unseen"]

PRIOR = 4.0
"""Degrees of freedom that the variance shared by all records counts for, beside the models - 1 of each record's own."""


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
    sigma = variance.clamp_min(1e-6).sqrt() * (1 + 1 / len(r)) ** 0.5
    return (m - expected) / sigma, expected, f"standard deviations from the mean of {len(r)} retrained models"


def largest(values: Tensor) -> float:
    """Return the value of largest size, with its sign.

    Args:
        values: Shape (records,), at least one.
    """
    return float(values[values.abs().argmax()])


def largest_beside_unseen(forget: Tensor, unseen: Tensor) -> float:
    """Return the largest deviation of a forget record over the one that as many unseen records would reach.

    v = d_x / q, x the forget record of largest |d|, q the n / (n + 1) quantile of |d| over records that neither model
    saw, n the number of forget records. Near 1 in size if neither model saw any of both.

    Args:
        forget: Differences of two models' margins on the forget records, shape (n,).
        unseen: The same on unseen ones.

    Raises:
        InputError: There is no record of either kind, or the models agree on all unseen ones.
    """
    if not len(forget) or not len(unseen):
        raise InputError("the largest deviation is compared with that of unseen records; there are none")
    n = len(forget)
    scale = float(torch.quantile(unseen.double().abs(), n / (n + 1)))
    if scale <= 0:
        raise InputError("both models give the same margins on unseen records")
    return largest(forget.double()) / scale
