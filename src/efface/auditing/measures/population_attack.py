"""One threshold on one statistic for everybody: cheap and weak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.auditing.measures.intervals import Interval, wilson
from efface.auditing.measures.roc import auc_bootstrap, least_supported_fpr, tpr_at_fpr, two_groups

__all__ = ["AttackResult", "population_attack"]


@dataclass(frozen=True)
class AttackResult:
    """What one attack achieved.

    Attributes:
        auc: Area under the ROC curve with its bootstrap interval; one half is chance, 0 and 1 are both full exposure.
        tpr: True-positive rate at each asked false-positive rate; None where too few negatives support it.
        least_fpr: The least false-positive rate that the negatives support, 1 / negatives.
        members: Number of forget records.
        others: Number of held-out records.
    """

    auc: Interval
    tpr: dict[float, Interval | None]
    least_fpr: float
    members: int
    others: int


def population_attack(
    members: Tensor,
    others: Tensor,
    generator: torch.Generator,
    *,
    fprs: Sequence[float] = (0.01, 0.001),
    resamples: int = 1000,
    confidence: float = 0.95,
) -> AttackResult:
    """Attack with one threshold on one statistic (the margin) for all records.

    Args:
        members: Scores of the forget records.
        others: Scores of held-out records of the same distribution; see `matching.match_by_class`.
        generator: Where the bootstrap resamples come from.
        fprs: False-positive rates at which the true-positive rate is wanted.
        resamples: Bootstrap resamples for the AUC.
        confidence: Share of such intervals that hold the true value.
    """
    first, second = two_groups(members, others)
    least = least_supported_fpr(len(second))
    tpr: dict[float, Interval | None] = {}
    for fpr in fprs:
        if fpr < least:
            tpr[fpr] = None
        else:
            tpr[fpr] = wilson(round(tpr_at_fpr(first, second, fpr) * len(first)), len(first), confidence)
    area = auc_bootstrap(first, second, generator, resamples=resamples, confidence=confidence)
    return AttackResult(area, tpr, least, len(first), len(second))
