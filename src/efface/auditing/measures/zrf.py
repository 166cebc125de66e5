"""Zero retrain forgetting (ZRF): likeness to a randomly initialised model."""

from __future__ import annotations

from torch import Tensor

from efface.auditing.measures.js_divergence import js_divergence
from efface.errors import InputError

__all__ = ["zero_retrain_forgetting"]


def zero_retrain_forgetting(unlearned: Tensor, random: Tensor) -> float:
    """Return ZRF = 1 - mean JS(M_u, model with random weights) on the forget data (arXiv 2205.08096).

    Its target is the retrained model's ZRF, not 1, and no verdict uses it.

    Args:
        unlearned: Logits, shape (examples, classes).
        random: Logits of the network with fresh weights (`efface.models.reset.reset`) on the same examples.

    Raises:
        InputError: If the shapes differ or there is no example.
    """
    if len(unlearned) == 0:
        raise InputError("ZRF over no example is not defined; give at least one forget example.")
    return 1 - float(js_divergence(unlearned, random).mean())
