"""The records that leak most: a deletion request concerns one person, not a mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.auditing.klom import CLIP
from efface.auditing.result import Exposed
from efface.auditing.subject import Subject
from efface.errors import InputError

__all__ = ["deviations", "most_exposed"]


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


def most_exposed(candidate: Subject, retrained: Sequence[Subject], k: int) -> tuple[Exposed, ...]:
    """Return the k forget records whose margin is furthest from what retrained models give, worst first.

    Args:
        candidate: The audited model.
        retrained: Models never trained on the forget data; without any, the list is empty.
        k: How many to list.
    """
    if not retrained or not k:
        return ()
    mine = candidate.margin("forget")
    score, expected, words = deviations(mine, torch.stack([r.margin("forget") for r in retrained]))
    part = candidate.scene.parts["forget"]
    worst = score.abs().topk(min(k, len(score))).indices
    return tuple(
        Exposed(
            id=int(part.indices[i]),
            label=int(candidate.labels["forget"][i]),
            score=float(score[i]),
            margin=float(mine[i]),
            expected=float(expected[i]),
            direction="left" if float(score[i]) > 0 else "over",
            measure=words,
        )
        for i in worst.tolist()
    )
