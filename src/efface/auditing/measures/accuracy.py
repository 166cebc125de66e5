"""Accuracy: what the model still gets right, class by class."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from efface.auditing.measures.margins import check_logits
from efface.errors import InputError

__all__ = ["accuracy", "confusion", "correct", "mask_classes", "per_class_accuracy"]


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether each example's largest logit is its label's, bool, shape (examples,).

    Args:
        logits: Shape (examples, classes).
        labels: Class indices, shape (examples,).

    Raises:
        InputError: If the logits cannot be used.
    """
    check_logits(logits, labels)
    return logits.argmax(1) == labels.to(logits.device)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of examples whose largest logit is their label's, in [0, 1].

    Args:
        logits: Shape (examples, classes).
        labels: Class indices, shape (examples,).

    Raises:
        InputError: If there is no example or the logits cannot be used.
    """
    if len(labels) == 0:
        raise InputError("Accuracy over no example is not defined; give a part that holds at least one.")
    return float(correct(logits, labels).double().mean())


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how often each class was answered for each class: rows are labels, columns answers.

    Args:
        logits: Shape (examples, classes).
        labels: Class indices, shape (examples,).

    Returns:
        Counts, int64, shape (classes, classes); the sum is the number of examples.
    """
    check_logits(logits, labels)
    k = logits.shape[1]
    cells = labels.to(logits.device).long() * k + logits.argmax(1)
    return torch.bincount(cells, minlength=k * k).reshape(k, k).cpu()


def per_class_accuracy(counts: Tensor) -> Tensor:
    """Return each class's accuracy from a confusion matrix; NaN for a class without examples.

    Args:
        counts: Shape (classes, classes), rows are labels.

    Returns:
        Shape (classes,), float64.
    """
    return counts.diagonal().double() / counts.sum(1).double()


def mask_classes(logits: Tensor, classes: Iterable[int]) -> Tensor:
    """Return the logits with the given classes made impossible, as the logit-mask baseline does.

    Args:
        logits: Shape (examples, classes).
        classes: Which columns become minus infinity; not all of them.
    """
    columns = sorted(set(classes))
    if len(columns) >= logits.shape[1]:
        raise InputError(f"Masking {len(columns)} of {logits.shape[1]} classes leaves no answer; keep at least one.")
    masked = logits.clone()
    masked[:, columns] = -torch.inf
    return masked
