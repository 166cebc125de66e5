"""Agreement: do two models answer alike on the same examples?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["activation_distance", "agreement", "js_divergence", "zero_retrain_forgetting"]


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(
            f"Two models are compared on the same examples and classes: got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    return first.double(), second.double().to(first.device)


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
    p, q = (x.log_softmax(1) for x in _pair(first, second))
    m = torch.logaddexp(p, q) - math.log(2)
    # exp(-inf) * (-inf - m) is NaN where it must be 0: a class without probability adds nothing.
    kl_p = torch.where(p.isneginf(), 0.0, p.exp() * (p - m)).sum(1)
    kl_q = torch.where(q.isneginf(), 0.0, q.exp() * (q - m)).sum(1)
    return ((kl_p + kl_q) / (2 * math.log(2))).clamp(0, 1)


def activation_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the Euclidean distance of two models' softmax vectors, example by example; 0 to sqrt 2.

    Args:
        first: Logits, shape (examples, classes).
        second: Logits of the other model on the same examples.

    Returns:
        Shape (examples,), float64. The published score is its mean.

    Raises:
        InputError: If the shapes differ.
    """
    p, q = _pair(first, second)
    return (p.softmax(1) - q.softmax(1)).norm(dim=1)


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return whether two models give the same answer, bool, shape (examples,).

    Args:
        first: Logits, shape (examples, classes).
        second: Logits of the other model on the same examples.

    Raises:
        InputError: If the shapes differ.
    """
    p, q = _pair(first, second)
    return p.argmax(1) == q.argmax(1)


def zero_retrain_forgetting(unlearned: Tensor, random: Tensor) -> float:
    """Return ZRF = 1 - mean JS(M_u, randomly initialised twin) on the forget data (arXiv 2205.08096).

    Its target is the retrained model's ZRF, not 1, and no verdict uses it.

    Args:
        unlearned: Logits, shape (examples, classes).
        random: Logits of a twin with fresh weights (`efface.models.reset.reset`) on the same examples.

    Raises:
        InputError: If the shapes differ or there is no example.
    """
    if len(unlearned) == 0:
        raise InputError("ZRF over no example is not defined; give at least one forget example.")
    return 1 - float(js_divergence(unlearned, random).mean())
