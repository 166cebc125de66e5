"""Where the mass goes: what a model says of the forgotten data among the classes that it kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["FLOOR", "entropy", "kept_lean", "kept_log_probabilities", "mass_divergence"]

FLOOR = 1e-3
"""Probabilities below are taken for it where their logarithms are compared: the far tail is noise."""


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
    _check(candidate, references)
    p, q = candidate.double(), references.double().logsumexp(0) - math.log(len(references))
    m = torch.logaddexp(p, q) - math.log(2)
    both = [(a.exp() * (a - m)).nan_to_num(nan=0.0).sum(1) for a in (p, q)]  # 0 log 0 = 0
    return ((both[0] + both[1]) / (2 * math.log(2))).clamp(0, 1)


def kept_lean(candidate: Tensor, references: Tensor, original: Tensor) -> float:
    """Return how far a model's answers lie from the references' towards the original's: 0 there, 1 at the original.

    b = sum (l(p) - l(q)) (l(o) - l(q)) / sum (l(o) - l(q))^2, over records and classes: the projection on the way from
    q, the mean of the references' probabilities, to the original's o; l(p) = log max(p, 0.001) less its mean over the
    classes. The mean of many differences along one way varies less from model to model than their size does. Its null:
    each reference against the mean of the others.

    Args:
        candidate: Log-probabilities, shape (records, classes).
        references: Log-probabilities of models that never saw the data, shape (models, records, classes).
        original: Log-probabilities of the model before forgetting, shape (records, classes).

    Raises:
        InputError: There is no reference, the shapes differ, or the original answers as the references do.

    Source: Ours; after CMIA, arXiv 2506.20893.
    """
    _check(candidate, references)
    if original.shape != candidate.shape:
        raise InputError(f"the original's log-probabilities have shape {tuple(original.shape)}, not the candidate's")

    def centred(log_probabilities: Tensor) -> Tensor:
        above = log_probabilities.double().clamp_min(math.log(FLOOR))
        return above - above.mean(1, keepdim=True)

    expected = centred(references.double().logsumexp(0) - math.log(len(references)))
    way = centred(original) - expected
    length = float(way.square().sum())
    if length < 1e-12 * way.numel():
        raise InputError("the original answers as the retrained models do among the kept classes; nothing leans to it")
    return float(((centred(candidate) - expected) * way).sum()) / length


def entropy(log_probabilities: Tensor) -> Tensor:
    """Return H(p) = -sum p log p in nats, record by record.

    Args:
        log_probabilities: Shape (records, classes).

    Returns:
        float64, shape (records,), from 0 to the logarithm of the number of classes.
    """
    p = log_probabilities.double()
    return -(p.exp() * p).nan_to_num(nan=0.0).sum(1)


def _check(candidate: Tensor, references: Tensor) -> None:
    if references.ndim != 3 or not len(references) or references.shape[1:] != candidate.shape:
        raise InputError(
            f"{tuple(candidate.shape)} log-probabilities are compared with those of at least one model of the same "
            f"shape; got {tuple(references.shape)}."
        )
