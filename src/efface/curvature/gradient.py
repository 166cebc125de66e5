"""The loss gradient of a whole part of the data: first-order saliency for methods that rank weights by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.models.mode import evaluating

__all__ = ["summed_gradient"]


def summed_gradient(
    model: nn.Module, part: Part, parameters: list[nn.Parameter], size: int, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Return the sum over batches of the gradient of the batch's mean cross-entropy, added with sign, in eval mode.

    g = sum_b grad (1/|b|) sum_{(x, y) in b} CE(f(x), y)

    A last, smaller batch weighs its samples more, as in the official codes of SalUn and MSG. BatchNorm statistics and
    the parameters' `.grad` stay as they are.

    Args:
        model: From inputs to logits, on `device`.
        part: The samples, read once, in order.
        parameters: Some of the model's parameters that require a gradient.
        size: Samples per batch.
        device: Where the model lives.

    Returns:
        One tensor per parameter, of its shape; zeros where the loss does not depend on it.
    """
    total = [torch.zeros_like(p) for p in parameters]
    with evaluating(model), torch.enable_grad():
        for x, y in part.batches(Epoch(size, device=device)):
            loss = F.cross_entropy(model(x).float(), y)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(total, gradients)
    return total
