"""Forgetting quality F of the 2023 NeurIPS challenge: does the best attack per record tell both ensembles apart?"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.auditing.measures.klom import CLIP, check_ensembles
from efface.errors import InputError

__all__ = ["epsilon", "final_score", "forgetting_quality"]


def epsilon(unlearned: Tensor, retrained: Tensor, *, delta: float = 0.01, two_sided: bool = False) -> Tensor:
    """Return the privacy loss eps that the best attack shows, record by record.

    Attacks: "margin above t means unlearned" for every threshold t, and a cross-validated logistic regression on the
    margin. With fpr = share of retrained models taken for unlearned and fnr = share of unlearned models taken for
    retrained, an attack is skipped if exactly one of them is 0 and shows an infinite eps if both are; otherwise
    max(ln(1 - delta - fpr) - ln fnr, ln(1 - delta - fnr) - ln fpr). The largest over attacks, at least 0.

    The published thresholds look upwards only, so a margin that is too low is left to the regression alone;
    `two_sided=True` tries each threshold in both directions, which finds it, and lowers the noise floor of F.

    Args:
        unlearned: Margins, shape (models, examples).
        retrained: Margins of as many retrained models on the same examples.
        delta: The failure probability of approximate differential privacy.
        two_sided: Whether thresholds are also used downwards (not in the published score).

    Returns:
        Shape (examples,), float64, 0 to infinity.

    Raises:
        InputError: If the two ensembles cannot be compared, or delta is outside [0, 1).
    """
    u, r = check_ensembles(unlearned, retrained, 2)
    if not 0 <= delta < 1:
        raise InputError(f"delta is {delta}; give a probability below 1 (default 0.01).")
    n = len(u)
    both, order = torch.cat([u, r]).sort(0)
    is_unlearned = (order < n).double()
    # Between positions i and i + 1 lies a threshold only where the margins differ.
    cut = both[1:] > both[:-1]
    unlearned_below = is_unlearned.cumsum(0)[:-1] / n
    retrained_below = (1 - is_unlearned).cumsum(0)[:-1] / n
    attacks = [_loss(1 - retrained_below, unlearned_below, delta)]
    if two_sided:
        attacks.append(_loss(retrained_below, 1 - unlearned_below, delta))
    best = torch.where(cut, torch.stack(attacks).amax(0), -torch.inf).amax(0)
    return torch.maximum(best, _loss(*_logistic_attack(u, r), delta)).clamp_min(0)


def _logistic_attack(unlearned: Tensor, retrained: Tensor, folds: int = 5) -> tuple[Tensor, Tensor]:
    """(fpr, fnr) of a logistic regression on one number per record, judged on models it was not fitted on.

    The prediction only needs the slope's sign and the cut, so a few ridge-damped Newton steps on standardised margins,
    for all records at once, are enough.
    """
    u, r = unlearned.clamp(-CLIP, CLIP), retrained.clamp(-CLIP, CLIP)
    n = len(u)
    wrong = [torch.zeros_like(u[0]), torch.zeros_like(u[0])]
    fold = torch.arange(n, device=u.device) % min(folds, n)
    for k in range(min(folds, n)):
        inside, held = fold != k, fold == k
        x = torch.cat([u[inside], r[inside]])
        centre, scale = x.mean(0), x.std(0).clamp_min(1e-12)
        x = (x - centre) / scale
        y = torch.cat([torch.ones_like(u[inside]), torch.zeros_like(r[inside])])
        slope, offset = torch.zeros_like(centre), torch.zeros_like(centre)
        for _ in range(8):
            p = torch.sigmoid(slope * x + offset)
            weight = (p * (1 - p)).clamp_min(1e-6)
            gradient = ((y - p) * x).sum(0) - slope, (y - p).sum(0)
            a, b, d = (weight * x * x).sum(0) + 1, (weight * x).sum(0), weight.sum(0)
            determinant = a * d - b * b
            slope = slope + (d * gradient[0] - b * gradient[1]) / determinant
            offset = offset + (a * gradient[1] - b * gradient[0]) / determinant
        wrong[0] += (slope * (r[held] - centre) / scale + offset > 0).sum(0)
        wrong[1] += (slope * (u[held] - centre) / scale + offset <= 0).sum(0)
    return wrong[0] / n, wrong[1] / n


def _loss(fpr: Tensor, fnr: Tensor, delta: float) -> Tensor:
    # Counts over n leave rounding near 0, which the rule "exactly 0" must not see.
    fpr, fnr = (torch.where(x.abs() < 1e-12, 0.0, x) for x in (fpr, fnr))
    first = torch.log((1 - delta - fpr).clamp_min(0)) - fnr.log()
    second = torch.log((1 - delta - fnr).clamp_min(0)) - fpr.log()
    value = torch.maximum(first, second)
    value = torch.where((fpr == 0) ^ (fnr == 0), -torch.inf, value)
    return torch.where((fpr == 0) & (fnr == 0), torch.inf, value)


def forgetting_quality(epsilons: Tensor) -> float:
    """Return F, the mean over records of 2 / 2^n, n the bin of eps in steps of one half, 13 bins, counted from 1.

    1 when no record shows eps of one half or more. For identical distributions it is not 1 but about
    0.46 / 0.50 / 0.53 / 0.75 / 0.89 at 16 / 64 / 128 / 256 / 512 models a side: read it beside its floor only.

    Args:
        epsilons: From `epsilon`, shape (examples,).

    Raises:
        InputError: If there is no record or a value is NaN.
    """
    if epsilons.numel() == 0 or bool(epsilons.isnan().any()):
        raise InputError("F averages over records: give at least one, without NaN.")
    n = (epsilons.double() / 0.5).floor().clamp(0, 12) + 1
    return float((2.0 / 2.0**n).mean())


def final_score(quality: float, *, retain: float, retain_retrained: float, test: float, test_retrained: float) -> float:
    """Return the challenge's final score, F x RA_u / RA_r x TA_u / TA_r.

    Args:
        quality: F of the ensemble.
        retain: Mean accuracy of the unlearned models on kept training data.
        retain_retrained: The same of retrained models.
        test: Mean accuracy of the unlearned models on test data.
        test_retrained: The same of retrained models.

    Raises:
        InputError: Retrained models that are never right have no ratio.

    Source: arXiv 2406.09073.
    """
    if not (retain_retrained > 0 and test_retrained > 0):
        raise InputError(
            f"accuracies are divided by retrained models', which are {retain_retrained:g} on kept training data and "
            f"{test_retrained:g} on test data; both must be above 0"
        )
    return quality * (retain / retain_retrained) * (test / test_retrained)
