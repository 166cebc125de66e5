"""RMIA: does the candidate know a record better than models that never saw it, beyond what it does for others?

Works from one reference model on, so it is the attack per record for small budgets.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from efface.errors import InputError

__all__ = ["log_ratio", "rmia_scores"]


def log_ratio(target: Tensor, references: Tensor, *, a: float = 0.3) -> Tensor:
    """Return log ratio_x = log p_y^target(x) - log Pr(x), with Pr(x) = ((1 + a) mean_ref p_y(x) + (1 - a)) / 2.

    The references never saw x; a says how much easier x would be, on average, for models that did (arXiv 2312.03262,
    equation 10).

    Args:
        target: Margins of the attacked model, shape (examples,).
        references: Margins of the reference models on the same examples, shape (models, examples).
        a: Between 0 and 1; 0.3 is the authors' value for ten classes.

    Returns:
        Shape (examples,), float64.

    Raises:
        InputError: If shapes do not fit, there is no reference, or a is outside [0, 1].
    """
    if references.ndim != 2 or len(references) == 0 or references.shape[1:] != target.shape:
        raise InputError(
            f"RMIA needs references of shape (models, examples) for the target's {tuple(target.shape)}; "
            f"got {tuple(references.shape)}."
        )
    if not 0 <= a <= 1:
        raise InputError(f"a is {a}; RMIA's offset lies between 0 and 1 (default 0.3).")
    out = torch.sigmoid(references.double()).mean(0)
    return logsigmoid(target.double()) - torch.log(((1 + a) * out + (1 - a)) / 2)


def rmia_scores(
    target: Tensor,
    references: Tensor,
    population_target: Tensor,
    population_references: Tensor,
    *,
    a: float = 0.3,
    gamma: float = 1.0,
) -> Tensor:
    """Return each record's share of population points that it dominates: #{z: ratio_x / ratio_z > gamma} / #z.

    Args:
        target: Margins of the attacked model on the records, shape (records,).
        references: Margins of the reference models, shape (models, records).
        population_target: Margins of the attacked model on held-out points, shape (points,).
        population_references: Margins of the same reference models, shape (models, points).
        a: See `log_ratio`.
        gamma: How much larger the ratio must be, 1 or more.

    Returns:
        Shape (records,), in [0, 1]; near 1: the target knows the record better than held-out points.

    Raises:
        InputError: If shapes do not fit, there is no population point or gamma is not positive.
    """
    if population_target.numel() == 0 or len(population_references) != len(references):
        raise InputError(
            f"RMIA compares with held-out points under the same references: got {population_target.numel()} points, "
            f"{len(references)} and {len(population_references)} reference models."
        )
    if gamma <= 0:
        raise InputError(f"gamma is {gamma}; give a positive ratio (default 1).")
    records = log_ratio(target, references, a=a)
    points = log_ratio(population_target, population_references, a=a).sort().values
    dominated = torch.searchsorted(points, records - torch.log(torch.tensor(gamma, dtype=torch.float64)))
    return dominated.double() / len(points)
