"""How far each record's margin lies from what models that never saw it give."""

from __future__ import annotations

from torch import Tensor

from efface.auditing.measures.klom import CLIP
from efface.errors import InputError

__all__ = ["deviations"]


def deviations(candidate: Tensor, retrained: Tensor) -> tuple[Tensor, Tensor, str]:
    """Return how far each record's margin lies from what models that never saw it give.

    With several retrained models: (m - mean) / sigma, sigma shared by all records below 64 models (a variance from a
    few numbers is worse) and at least 0.001; with one: m - m_r. Margins are clipped at -+100.

    Args:
        candidate: Margins, shape (records,).
        retrained: Margins of models never trained on these records, shape (models, records).

    Returns:
        The deviations, the expected margins, both of shape (records,), and what the deviations are, in words.

    Raises:
        InputError: If there is no retrained model or shapes differ.
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
    variance = r.var(0)
    if len(r) < 64:
        variance = variance.mean().expand_as(variance)
    sigma = variance.clamp_min(1e-6).sqrt() * (1 + 1 / len(r)) ** 0.5
    return (m - expected) / sigma, expected, f"standard deviations from the mean of {len(r)} retrained models"
