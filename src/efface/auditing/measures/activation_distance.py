"""Activation distance: between two models' probability vectors."""

from __future__ import annotations

from torch import Tensor

from efface.auditing.measures.agreement import same_records

__all__ = ["activation_distance"]


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
    p, q = same_records(first, second)
    return (p.softmax(1) - q.softmax(1)).norm(dim=1)
