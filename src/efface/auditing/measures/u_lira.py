"""U-LiRA: with many models of both kinds, can an attacker tell "unlearned" from "never trained on", record by record?

The models that are judged are held out of the fit. Scored in-sample, two identical distributions give an accuracy of
0.58 / 0.54 / 0.52 for 16 / 64 / 256 models a side instead of 0.50.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from efface.auditing.measures.intervals import Interval, t_interval
from efface.auditing.measures.klom import CLIP, check_ensembles
from efface.auditing.measures.roc import auc, least_supported_fpr, tpr_at_fpr
from efface.errors import InputError

__all__ = ["Role", "ULira", "by_role", "log_likelihood_ratio", "thirds", "u_lira"]


class Role(IntEnum):
    """What one record is to one shadow model, in RULI's design."""

    IN = 0
    OUT = 1
    UNLEARNED = 2


@dataclass(frozen=True)
class ULira:
    """What U-LiRA achieved on held-out models.

    Attributes:
        accuracy: Balanced accuracy; its interval is Student's over the folds of held-out models.
        auc: Area under the ROC curve, the mean over folds, with Student's interval.
        tpr: True-positive rate at each asked false-positive rate, or None where too few pairs support it.
        least_fpr: The least supported false-positive rate.
        per_record: Balanced accuracy on each record, shape (examples,).
        models: Models on each side.
    """

    accuracy: Interval
    auc: Interval
    tpr: dict[float, float | None]
    least_fpr: float
    per_record: Tensor
    models: int


def log_likelihood_ratio(
    targets: Tensor, unlearned: Tensor, retrained: Tensor, *, shared_below: int = 64, sigma_floor: float = 1e-3
) -> Tensor:
    """Return log N(m; U_x) - log N(m; R_x) for each target model and record.

    With fewer than `shared_below` models a side, one variance is shared by all records of that side, since a variance
    from a few numbers is worse than a wrong one; sigma never falls below `sigma_floor`, so that models that agree to
    the last digit give no NaN. Margins are clipped at -+100.

    Args:
        targets: Margins of models that are in neither ensemble, shape (targets, examples).
        unlearned: Shape (models, examples).
        retrained: Shape (models, examples).
        shared_below: Number of models from which each record has its own variance.
        sigma_floor: Least standard deviation of a margin.

    Returns:
        Shape (targets, examples), float64; above 0 means "was unlearned".
    """
    target = targets.double().clamp(-CLIP, CLIP)
    result = torch.zeros_like(target)
    for sign, ensemble in ((1, unlearned), (-1, retrained)):
        m = ensemble.double().clamp(-CLIP, CLIP)
        mean, variance = m.mean(0), m.var(0)
        if len(m) < shared_below:
            variance = variance.mean().expand_as(mean)
        variance = variance.clamp_min(sigma_floor**2)
        result += sign * (-((target - mean) ** 2) / (2 * variance) - variance.log() / 2)
    return result


def u_lira(
    unlearned: Tensor,
    retrained: Tensor,
    *,
    folds: int = 8,
    fprs: tuple[float, ...] = (0.01, 0.001),
    confidence: float = 0.95,
    shared_below: int = 64,
) -> ULira:
    """Attack held-out models: per fold, as many of both kinds are left out, the Gaussians are fitted on the others.

    Leaving out a pair rather than one model keeps the fits of both sides equally large; otherwise the side that lost a
    model is slightly disfavoured, and two identical distributions do not give one half.

    Args:
        unlearned: Margins of models trained with the records and then unlearned, shape (models, examples).
        retrained: Margins of as many models never trained on them.
        folds: At most the number of models a side.
        fprs: False-positive rates at which the true-positive rate is wanted, pooled over folds and records.
        confidence: Of the intervals.
        shared_below: See `log_likelihood_ratio`.

    Raises:
        InputError: If the two ensembles cannot be compared, fewer than 3 models a side are given, or fewer than two
            folds are asked.
    """
    u, r = check_ensembles(unlearned, retrained, 3)
    n = len(u)
    if folds < 2:
        raise InputError(f"folds is {folds}; at least 2 are needed, so that every judged model is held out.")
    # Two models a side must stay in each fit: a variance needs them.
    folds = min(folds, n) if n > 3 else 3
    fold = torch.arange(n, device=u.device) % folds
    positives, negatives = torch.empty_like(u), torch.empty_like(r)
    accuracies, areas = [], []
    for k in range(folds):
        held, fitted = fold == k, fold != k
        for side, scores in ((u, positives), (r, negatives)):
            scores[held] = log_likelihood_ratio(side[held], u[fitted], r[fitted], shared_below=shared_below)
        hit, alarm = (positives[held] > 0).double().mean(), (negatives[held] > 0).double().mean()
        accuracies.append((hit + 1 - alarm) / 2)
        areas.append(auc(positives[held], negatives[held]))
    per_record = ((positives > 0).double().mean(0) + (negatives <= 0).double().mean(0)) / 2
    least = least_supported_fpr(negatives.numel())
    rates = {f: tpr_at_fpr(positives, negatives, f) if f >= least else None for f in fprs}
    return ULira(
        t_interval(torch.stack(accuracies), confidence),
        t_interval(torch.tensor(areas), confidence),
        rates,
        least,
        per_record.cpu(),
        n,
    )


def thirds(models: int, examples: int, generator: torch.Generator) -> Tensor:
    """Deal out RULI's roles: every record is IN, OUT and UNLEARNED in a third of the shadow models each.

    Shadow model k trains on the records that are IN or UNLEARNED for it, and then unlearns the latter; no model is
    needed per record, and 90 of them serve all.

    Args:
        models: Number of shadow models, a multiple of 3.
        examples: Number of records.
        generator: Where the roles come from; independent between records.

    Returns:
        Values of `Role`, int8, shape (models, examples).

    Raises:
        InputError: If the number of models is not a positive multiple of 3.
    """
    if models < 3 or models % 3:
        raise InputError(f"{models} shadow models cannot be dealt out in thirds; give a positive multiple of 3.")
    order = torch.rand(models, examples, generator=generator).argsort(0)
    return (order % 3).to(torch.int8)


def by_role(margins: Tensor, roles: Tensor, role: Role, models: int | None = None) -> Tensor:
    """Gather each record's margins under the models in which it has a role.

    Args:
        margins: Shape (models, examples).
        roles: From `thirds`, shape (models, examples); rows may be missing where training was stopped early.
        role: Which of the three.
        models: How many per record, the first of those; by default as many as every record has.

    Returns:
        Shape (models per record, examples), in the order of the models: ready for
        `u_lira(by_role(..., UNLEARNED, n), by_role(..., OUT, n))`.

    Raises:
        InputError: If shapes differ, or some record has the role in fewer models than asked for.
    """
    if margins.shape != roles.shape or margins.ndim != 2 or margins.shape[1] == 0:
        raise InputError(f"Margins {tuple(margins.shape)} and roles {tuple(roles.shape)} must have the same shape.")
    chosen = roles == int(role)
    least = int(chosen.sum(0).min())
    n = least if models is None else models
    if n < 1 or n > least:
        raise InputError(
            f"Some record is {role.name} in only {least} of {len(roles)} shadow models, and {n} are asked for; "
            "train the remaining shadow models, dealt out with `thirds`."
        )
    first = chosen & (chosen.cumsum(0) <= n)
    return margins.T[first.T].reshape(margins.shape[1], n).T
