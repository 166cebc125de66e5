"""RMIA: does the candidate know a record better than models that never saw it, beyond what it does for others?

Works from one reference model on, so it is the attack per record for small budgets. The published score of a record is
its share of population points z with ratio_x / ratio_z > gamma. At one target model it rises with ratio_x, so AUC and
true-positive rates are those of the ratio itself, which has no ties.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from efface.errors import InputError

__all__ = ["log_ratio"]


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
