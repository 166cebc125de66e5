"""Membership: can an attacker with one model tell forgotten records from records never seen?

One threshold on one statistic for everybody: cheap and weak. Failing to find a difference proves little; finding one
is a finding, on either side of one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

from efface.auditing.intervals import Interval, bootstrap_counts, wilson
from efface.errors import InputError

__all__ = [
    "AttackResult",
    "attack_gap",
    "auc",
    "auc_bootstrap",
    "auc_draws",
    "least_supported_fpr",
    "logistic_attack",
    "percentiles",
    "population_attack",
    "tpr_at_fpr",
]


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


def _scores(members: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    first, second = members.detach().cpu().double().flatten(), others.detach().cpu().double().flatten()
    if len(first) == 0 or len(second) == 0:
        raise InputError(
            f"An attack tells two groups apart: got {len(first)} forget and {len(second)} held-out records; "
            "give at least one of each."
        )
    if bool(first.isnan().any() | second.isnan().any()):
        raise InputError("An attack's scores must not be NaN; look at the model's logits.")
    return first, second


def _ranks(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, int]:
    values, index = torch.unique(torch.cat([first, second]), return_inverse=True)
    return index[: len(first)], index[len(first) :], len(values)


def auc(members: Tensor, others: Tensor) -> float:
    """Return the probability that a member scores above another record, ties counting one half.

    Args:
        members: Scores of the forget records; infinite values are ranked last or first.
        others: Scores of held-out records.

    Raises:
        InputError: If a group is empty or holds NaN.
    """
    first, second = _scores(members, others)
    rank_first, rank_second, _ = _ranks(first, second)
    truth = torch.cat([torch.ones(len(first)), torch.zeros(len(second))]).numpy()
    return float(roc_auc_score(truth, torch.cat([rank_first, rank_second]).numpy()))


def _bootstrap_auc(members: Tensor, others: Tensor, counts: tuple[Tensor, Tensor]) -> Tensor:
    """Weighted AUC of each resample, shape (resamples,): weights are how often a record was drawn."""
    rank_first, rank_second, size = _ranks(members, others)
    drawn_first, drawn_second = counts
    rows = len(drawn_first)
    weight = torch.zeros(rows, size, dtype=torch.float64)
    below = weight.clone().index_add_(1, rank_second, drawn_second)
    weight.index_add_(1, rank_first, drawn_first)
    wins = (weight * (below.cumsum(1) - below / 2)).sum(1)
    return wins / (drawn_first.sum(1) * drawn_second.sum(1))


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


def auc_draws(members: Tensor, others: Tensor, generator: torch.Generator, resamples: int) -> Tensor:
    """Return the AUC of bootstrap resamples of both groups, shape (resamples,).

    Args:
        members: Scores of the forget records, shape (members,).
        others: Scores of held-out records, shape (others,).
        generator: Where the resamples come from.
        resamples: How many.
    """
    first, second = _scores(members, others)
    counts = _double_counts(len(first), len(second), resamples, generator)
    return torch.cat([_bootstrap_auc(first, second, c) for c in counts])


def auc_bootstrap(
    members: Tensor,
    others: Tensor,
    generator: torch.Generator,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Return the AUC with a percentile bootstrap interval, both groups resampled.

    Args:
        members: Scores of the forget records, shape (members,).
        others: Scores of held-out records, shape (others,).
        generator: Where the resamples come from.
        resamples: How many.
        confidence: Share of such intervals that hold the true AUC.
    """
    return percentiles(auc(members, others), auc_draws(members, others, generator, resamples), confidence)


def attack_gap(
    ours: tuple[Tensor, Tensor],
    theirs: tuple[Tensor, Tensor],
    generator: torch.Generator,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Return AUC(M_u) - AUC(M_r) with a paired bootstrap interval: both models see the same resampled records.

    Args:
        ours: Scores of (forget, held-out) records under the candidate.
        theirs: Scores of the same records, in the same order, under the retrained model.
        generator: Where the resamples come from.
        resamples: How many.
        confidence: Share of such intervals that hold the true difference.

    Raises:
        InputError: If the two models were scored on different numbers of records.
    """
    u, r = _scores(*ours), _scores(*theirs)
    if [len(x) for x in u] != [len(x) for x in r]:
        raise InputError("A paired gap needs both models' scores on the same records, in the same order.")
    draws = [
        _bootstrap_auc(*u, counts) - _bootstrap_auc(*r, counts)
        for counts in _double_counts(len(u[0]), len(u[1]), resamples, generator)
    ]
    return percentiles(auc(*u) - auc(*r), torch.cat(draws), confidence)


def _double_counts(n: int, m: int, resamples: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    both = bootstrap_counts(n, resamples, generator), bootstrap_counts(m, resamples, generator)
    first, second = torch.cat(list(both[0])), torch.cat(list(both[1]))
    return list(zip(first.split(250), second.split(250), strict=True))


def least_supported_fpr(others: int) -> float:
    """Return the least false-positive rate that so many negatives can show, 1 / others."""
    if others < 1:
        raise InputError("Without held-out records no false-positive rate is supported; give at least one.")
    return 1 / others


def tpr_at_fpr(members: Tensor, others: Tensor, fpr: float) -> float:
    """Return the largest true-positive rate of a threshold whose false-positive rate does not exceed `fpr`.

    No interpolation: each rate belongs to a threshold that an attacker can use.

    Args:
        members: Scores of the forget records.
        others: Scores of held-out records.
        fpr: Allowed false-positive rate, above 0.

    Raises:
        InputError: If fewer than 1 / fpr negatives are there: the message states the least rate that is supported.
    """
    first, second = _scores(members, others)
    least = least_supported_fpr(len(second))
    if fpr < least:
        raise InputError(
            f"A false-positive rate of {fpr:g} needs at least {math.ceil(1 / fpr)} held-out records; with "
            f"{len(second)} the least supported rate is {least:.2g}. Ask for that, or hold out more."
        )
    rank_first, rank_second, _ = _ranks(first, second)
    truth = torch.cat([torch.ones(len(first)), torch.zeros(len(second))]).numpy()
    rates, hits, _ = roc_curve(truth, torch.cat([rank_first, rank_second]).numpy(), drop_intermediate=False)
    return float(hits[rates <= fpr + 1e-12].max())


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
    first, second = _scores(members, others)
    least = least_supported_fpr(len(second))
    tpr: dict[float, Interval | None] = {}
    for fpr in fprs:
        if fpr < least:
            tpr[fpr] = None
        else:
            tpr[fpr] = wilson(round(tpr_at_fpr(first, second, fpr) * len(first)), len(first), confidence)
    area = auc_bootstrap(first, second, generator, resamples=resamples, confidence=confidence)
    return AttackResult(area, tpr, least, len(first), len(second))


def logistic_attack(members: Tensor, others: Tensor, seed: int, *, folds: int = 5) -> float:
    """Return the balanced accuracy of a cross-validated logistic regression on the loss (the 2023 challenge's attack).

    Each record is judged by a regression that was not fitted on it. The loss is log(1 + exp(-m)), clipped at 100.

    Args:
        members: Margins of the forget records.
        others: Margins of held-out records.
        seed: Seed of the shuffled folds.
        folds: At most the size of the smaller group.

    Returns:
        In [0, 1]; one half is chance.

    Raises:
        InputError: If a group holds fewer than two records.
    """
    first, second = _scores(members, others)
    n = min(len(first), len(second))
    if n < 2:
        raise InputError(f"A cross-validated attack needs two records of each group; the smaller has {n}.")
    margin = torch.cat([first, second])
    loss = torch.nn.functional.softplus(-margin.clamp(-100, 100)).unsqueeze(1).numpy()
    truth = torch.cat([torch.ones(len(first)), torch.zeros(len(second))]).numpy()
    splits = StratifiedKFold(min(folds, n), shuffle=True, random_state=seed)
    model = LogisticRegression(class_weight="balanced")
    return float(cross_val_score(model, loss, truth, cv=splits, scoring="balanced_accuracy").mean())
