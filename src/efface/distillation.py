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
        (...), zero where the two agree up to a constant.
    """
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    return F.kl_div(log_q, log_p.exp(), reduction="none").sum(-1)
