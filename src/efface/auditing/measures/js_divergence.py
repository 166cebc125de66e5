"""Jensen-Shannon divergence between two models' answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from efface.auditing.measures.agreement import same_records

__all__ = ["js_divergence"]


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two models' answers, example by example.

    JS = (KL(p || m) + KL(q || m)) / (2 ln 2), m = (p + q) / 2, each KL summed (not averaged) over classes; 0 for equal
    answers, 1 for answers that share no class. Computed from log-softmax and logaddexp, so that one-hot answers and
    masked classes give finite values.

    Args:
        first: Logits, shape (examples, classes).
        second: Logits of the other model on the same examples.

    Returns:
        Shape (examples,), float64, in [0, 1]. The published score is its mean.

    Raises:
        InputError: If the shapes differ.
    """
    p, q = (x.log_softmax(1) for x in same_records(first, second))
    m = torch.logaddexp(p, q) - math.log(2)
    # exp(-inf) * (-inf - m) is NaN where it must be 0: a class without probability adds nothing.
    kl_p = torch.where(p.isneginf(), 0.0, p.exp() * (p - m)).sum(1)
    kl_q = torch.where(q.isneginf(), 0.0, q.exp() * (q - m)).sum(1)
    return ((kl_p + kl_q) / (2 * math.log(2))).clamp(0, 1)
