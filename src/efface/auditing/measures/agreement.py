"""Agreement: do two models answer alike on the same examples?"""

from __future__ import annotations

from torch import Tensor

from efface.errors import InputError

__all__ = ["agreement"]


def same_records(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(
            f"Two models are compared on the same examples and classes: got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    return first.double(), second.double().to(first.device)


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return whether two models give the same answer, bool, shape (examples,).

    Args:
        first: Logits, shape (examples, classes).
        second: Logits of the other model on the same examples.

    Raises:
        InputError: If the shapes differ.
    """
    p, q = same_records(first, second)
    return p.argmax(1) == q.argmax(1)
