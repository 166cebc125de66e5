"""Margins: the one number per record from which most attacks are computed."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["check_logits", "margins"]


def check_logits(logits: Tensor, labels: Tensor, *, where: str = "the logits") -> None:
    """Refuse logits from which no score can be computed.

    Minus infinity is allowed, because masking a class writes it; NaN and plus infinity are not, nor a row without any
    finite logit.

    Args:
        logits: Shape (examples, classes).
        labels: Class indices, shape (examples,).
        where: What the logits belong to, for the message.

    Raises:
        InputError: If shapes do not fit, a label has no logit, or a logit is NaN or plus infinity.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise InputError(
            f"{where} have shape {tuple(logits.shape)} for labels of shape {tuple(labels.shape)}; "
            "give (examples, classes) logits and one label for each example."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise InputError(
            f"{where} have {logits.shape[1]} columns, but the labels run from {int(labels.min())} to "
            f"{int(labels.max())}; give a model with one output for each class, in the data's class order."
        )
    bad = logits.isnan() | logits.isposinf()
    if bool(bad.any()):
        raise InputError(
            f"{where} hold {int(bad.sum())} values that are NaN or infinite, in {int(bad.any(1).sum())} of "
            f"{len(logits)} rows; a model that does not answer in numbers cannot be audited: look at its weights and "
            "inputs."
        )
    if bool(logits.isneginf().all(1).any()):
        raise InputError(f"{where} hold a row of minus infinities only; at least one class must stay possible.")


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the correct-class logit minus the log-sum-exp of the others.

    m(x) = z_y - log sum_{j != y} exp z_j = log(p_y / (1 - p_y)).

    Taken from logits in float64, since 1 - p_y is 0 in float32 as soon as the margin passes 17.

    Args:
        logits: Shape (examples, classes), any floating type.
        labels: Class indices, shape (examples,).

    Returns:
        Shape (examples,), float64; minus infinity where the correct class is masked.

    Raises:
        InputError: If the logits cannot be used; see `check_logits`.
    """
    check_logits(logits, labels)
    wide = logits.double()
    column = labels.to(wide.device).long().unsqueeze(1)
    own = wide.gather(1, column).squeeze(1)
    others = wide.scatter(1, column, -torch.inf)
    return own - torch.logsumexp(others, dim=1)
