"""BatchNorm layers of any model, and their running statistics computed anew from data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from efface.models.mode import evaluating

__all__ = ["batch_norms", "recompute_statistics"]


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return every BatchNorm layer that keeps running statistics, in the order of the model's modules."""
    kind = nn.modules.batchnorm._BatchNorm
    return [m for m in model.modules() if isinstance(m, kind) and m.running_mean is not None]


def recompute_statistics(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the running mean and variance of every BatchNorm layer by their plain averages over the batches.

    Everything else stays in eval mode (no dropout), no weight changes, and modes and momenta are restored afterwards.
    Each layer sees its predecessors normalised by the batch, as in training.

    Args:
        model: Any module, on the device of the batches; without BatchNorm nothing happens and nothing is read.
        batches: Pairs of inputs and labels; the labels are not used. A batch of one sample is skipped: it has no
            variance.
    """
    layers = batch_norms(model)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    with evaluating(model), torch.no_grad():
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's word for the cumulative average
            layer.train()
        try:
            for x, _ in batches:
                if len(x) > 1:
                    model(x)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
