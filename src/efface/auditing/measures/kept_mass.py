"""Where the mass goes: what a model says of the forgotten data among the classes that it kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["entropy", "kept_log_probabilities", "mass_divergence"]


def kept_log_probabilities(logits: Tensor, forgotten: Iterable[int]) -> Tensor:
    """Return log p(c | x, c is kept): log softmax over the kept classes only.

    Turning a forgotten class's logit up or down does not change it.

    Args:
        logits: Shape (..., classes).
        forgotten: Classes to leave out; none for requests of items.

    Returns:
        float64, shape (..., kept classes).

    Raises:
        InputError: Fewer than two classes are kept.
    """
    gone = set(forgotten)
    kept = [c for c in range(logits.shape[-1]) if c not in gone]
    if len(kept) < 2:
        raise InputError(f"{len(kept)} kept classes share no mass; at least 2 are needed.")
    return logits[..., kept].double().log_softmax(-1)


def mass_divergence(candidate: Tensor, references: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of a model's answers to the mean of the references', record by record.

    JS(p, q) = (KL(p || m) + KL(q || m)) / (2 ln 2), m = (p + q) / 2, q the mean of the references' probabilities; 0 for
    equal answers, 1 for answers that share no class. Its null: each reference against the mean of the others.

    Args:
        candidate: Log-probabilities, shape (records, classes).
        references: Log-probabilities of models that never saw the data, shape (models, records, classes).

    Returns:
        float64, shape (records,).

    Raises:
        InputError: There is no reference, or the shapes differ.

    Source: CMIA, arXiv 2506.20893.
    """
    if references.ndim != 3 or not len(references) or references.shape[1:] != candidate.shape:
        raise InputError(
            f"{tuple(candidate.shape)} log-probabilities are compared with those of at least one model of the same "
            f"shape; got {tuple(references.shape)}."
        )
    p, q = candidate.double(), references.double().logsumexp(0) - math.log(len(references))
    m = torch.logaddexp(p, q) - math.log(2)
    both = [(a.exp() * (a - m)).nan_to_num(nan=0.0).sum(1) for a in (p, q)]  # 0 log 0 = 0
    return ((both[0] + both[1]) / (2 * math.log(2))).clamp(0, 1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Return H(p) = -sum p log p in nats, record by record.

    Args:
        log_probabilities: Shape (records, classes).

    Returns:
        float64, shape (records,), from 0 to the logarithm of the number of classes.
    """
    p = log_probabilities.double()
    return -(p.exp() * p).nan_to_num(nan=0.0).sum(1)
