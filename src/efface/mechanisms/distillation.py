"""Distances between a student's and a teacher's answers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["kl"]


def kl(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(softmax(t / T) || softmax(s / T)) of every sample: summed over classes, not scaled by T^2.

    Args:
        teacher: Logits t (..., K); -inf gives a class no mass.
        student: Logits s (..., K).
        temperature: T.

    Returns:
        (...), zero where the two agree up to a constant; differentiable by both.
    """
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    # F.kl_div takes the logarithm of p, whose derivative by the teacher is NaN where p underflows to zero.
    finite = log_p.masked_fill(log_p.isneginf(), 0.0)
    return (log_p.exp() * (finite - log_q)).sum(-1)
