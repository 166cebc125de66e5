"""ROC curves of attacks: AUC, true-positive rate at a low false-positive rate, and their resamples."""

from __future__ import annotations

import math

import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from efface.auditing.measures.intervals import Interval, bootstrap_counts, percentiles
from efface.errors import InputError

__all__ = ["attack_gap", "auc", "auc_draws", "auc_over_models", "least_supported_fpr", "tpr_at_fpr"]


def two_groups(members: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
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
    first, second = two_groups(members, others)
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


def auc_draws(members: Tensor, others: Tensor, generator: torch.Generator, resamples: int) -> Tensor:
    """Return the AUC of bootstrap resamples of both groups, shape (resamples,).

    Args:
        members: Scores of the forget records, shape (members,).
        others: Scores of held-out records, shape (others,).
        generator: Where the resamples come from.
        resamples: How many.
    """
    first, second = two_groups(members, others)
    counts = _double_counts(len(first), len(second), resamples, generator)
    return torch.cat([_bootstrap_auc(first, second, c) for c in counts])


def auc_over_models(ours: Tensor, theirs: Tensor) -> tuple[float, Tensor]:
    """Return the chance that a record scores higher under one model than another record under others, and who makes it.

    a = mean over models j and records x, y of [s(x) > s_j(y)], ties counting one half: the mean AUC over the models.
    The influence of record x is mean_y,j [s(x) > s_j(y)] + mean_y,j [s(y) > s_j(x)] - 2 a: it belongs to both sides,
    so that records are drawn together. The bootstrap of a is a plus the mean influence of the records drawn.

    Args:
        ours: Shape (records,).
        theirs: The same records under other models, shape (models, records).

    Returns:
        a, and float64 of shape (records,), with mean 0.

    Raises:
        InputError: If there is no record or model, the shapes differ, or a score is NaN.

    Source: DeLong 1988, for the influence.
    """
    if theirs.ndim != 2 or theirs.shape[1:] != ours.shape:
        raise InputError(f"the same records are compared: got {tuple(ours.shape)} and {tuple(theirs.shape)} scores")
    first, second = two_groups(ours, theirs)

    def below(x: Tensor, of: Tensor) -> Tensor:
        sorted_ = of.sort().values
        return (torch.searchsorted(sorted_, x) + torch.searchsorted(sorted_, x, right=True)).double() / (2 * len(of))

    above = below(first, second)
    value = float(above.mean())
    return value, above + 1 - below(second, first).view(theirs.shape).mean(0) - 2 * value


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
    u, r = two_groups(*ours), two_groups(*theirs)
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
    first, second = two_groups(members, others)
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
