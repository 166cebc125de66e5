"""The losses of learning with selective forgetting, on cosines y in [-1, 1]^K.

Source: Shibata, Irie, Ikami, Mitsuzumi, "Learning with Selective Forgetting", IJCAI 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.mechanisms.distillation import kl

__all__ = ["additive_margin", "elastic", "even_out", "masked_distillation", "mixed"]


def additive_margin(cosines: Tensor, labels: Tensor, scale: float = 30.0, margin: float = 0.35) -> Tensor:
    """Return AM = -mean log [e^{s (y_c - m)} / (e^{s (y_c - m)} + sum_{j != c} e^{s y_j})].

    Args:
        cosines: y (N, K).
        labels: c (N,).
        scale: s.
        margin: m; at 0 this is the cross-entropy of s y.
    """
    lowered = margin * F.one_hot(labels, cosines.shape[1]).to(cosines)
    return F.cross_entropy(scale * (cosines - lowered), labels)


def mixed(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Return lambda x + (1 - lambda) x', one lambda per sample.

    Args:
        x: (N, ...).
        other: x' (N, ...).
        share: lambda (N,) in [0, 1].
    """
    lam = share.reshape(-1, *[1] * (x.ndim - 1))
    return lam * x + (1 - lam) * other


def masked_distillation(
    teacher: Tensor, student: Tensor, kept: Tensor, scale: float = 30.0, temperature: float = 2.0
) -> Tensor:
    """Return LwF* = s² T² mean KL(softmax(m * t / T) || softmax(m * y / T)): deleted entries count as 0 on both sides.

    Args:
        teacher: Cosines t (N, K) of the network before.
        student: Cosines y (N, K).
        kept: m (K,), 1 for kept classes and 0 for deleted ones.
        scale: s.
        temperature: T.
    """
    return (scale * temperature) ** 2 * kl(kept * teacher, kept * student, temperature).mean()


def even_out(student: Tensor, kept: Tensor, scale: float = 30.0, temperature: float = 2.0) -> Tensor:
    """Return s² T² mean KL(softmax((1 - m) / (K T)) || softmax((1 - m) * y / T)): deleted cosines go to 1 / K.

    Args:
        student: Cosines y (N, K).
        kept: m (K,).
        scale: s.
        temperature: T.
    """
    gone = 1 - kept
    return (scale * temperature) ** 2 * kl(gone / len(gone), gone * student, temperature).mean()


def elastic(model: nn.Module, start: Mapping[str, Tensor], importance: Mapping[str, Tensor]) -> Tensor:
    """Return EWC* = 1/2 sum_i F_i (theta_i - theta*_i)² over the parameters that have an importance.

    Args:
        model: theta.
        start: theta* by name.
        importance: F by name.
    """
    terms = [(importance[n] * (p - start[n]) ** 2).sum() for n, p in model.named_parameters() if n in importance]
    return 0.5 * torch.stack(terms).sum()
