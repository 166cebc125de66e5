"""The exponential moving average of a model's weights over training."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["Average"]


class Average:
    """m <- d m + (1 - d) w after every step, d = exp(-1 / (share * steps)), starting at the weights of the first.

    A share of all steps, not a number of them: a training of any length averages over the same part of its schedule.

    Args:
        model: What is averaged; not changed.
        share: The memory of the average, above 0.
        steps: Of the whole training.
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        decay = math.exp(-1 / max(share * steps, 1e-9))
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.averaged.update_parameters(model)

    def into(self, model: nn.Module) -> None:
        """Give a model the average of its weights; buffers, BatchNorm's statistics among them, stay its own."""
        with torch.no_grad():
            for own, mean in zip(model.parameters(), self.averaged.module.parameters(), strict=True):
                own.copy_(mean)
