"""Utility: what the model still gets right, class by class, and the three aggregates of the literature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from efface.auditing.margins import check_logits
from efface.errors import InputError

__all__ = [
    "accuracy",
    "adaptive_unlearning_score",
    "confusion",
    "correct",
    "mask_classes",
    "nomus",
    "per_class_accuracy",
    "tug_of_war",
]


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


def tug_of_war(ours: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return ToW, the product over forget, retain and test of one minus the accuracy gap to the retrained model.

    ToW = prod_S (1 - |a_u(S) - a_r(S)|), 1 is best (arXiv 2406.01257).

    Args:
        ours: Accuracies in [0, 1] by part name.
        reference: The retrained model's, with the same names.

    Raises:
        InputError: If the parts differ, none is given, or a value is no accuracy (percent, for example).
    """
    if set(ours) != set(reference) or not ours:
        raise InputError(f"ToW compares the same parts: got {sorted(ours)} and {sorted(reference)}.")
    product = 1.0
    for name in ours:
        for value in (ours[name], reference[name]):
            if not 0 <= value <= 1:
                raise InputError(f"The accuracy on {name!r} is {value}; ToW takes shares between 0 and 1, not percent.")
        product *= 1 - abs(ours[name] - reference[name])
    return product


def adaptive_unlearning_score(*, test: float, test_original: float, forget: float, items: bool) -> float:
    """Return AUS = (1 - (TA_o - TA_u)) / (1 + Delta), 1 is best (arXiv 2312.02052).

    Delta is the forget accuracy for class requests (it should be 0) and |TA_u - FA_u| for items (where the forgotten
    records should look like any unseen ones).

    Args:
        test: TA_u, accuracy on test data (of the kept classes, for class requests), in [0, 1].
        test_original: TA_o, the original model's on the same data.
        forget: FA_u, accuracy on the forget data.
        items: Whether single items, rather than whole classes, are forgotten.
    """
    delta = abs(test - forget) if items else forget
    return (1 - (test_original - test)) / (1 + delta)


def nomus(test: float, attack_accuracy: float) -> float:
    """Return NoMUS = (TA + 1 - 2 |mia - 1/2|) / 2, 1 is best (arXiv 2311.02240).

    It rewards an attack accuracy of one half even where the retrained model is not there, so no verdict uses it.

    Args:
        test: Accuracy on test data, in [0, 1].
        attack_accuracy: Balanced accuracy of a membership attack, in [0, 1].
    """
    return (test + 1 - 2 * abs(attack_accuracy - 0.5)) / 2
