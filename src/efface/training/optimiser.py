"""From a recipe to PyTorch's optimiser and learning-rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

from efface.training.recipe import Recipe

__all__ = ["optimiser_of", "scheduler_of"]


def optimiser_of(parameters: list[nn.Parameter], recipe: Recipe, *, axes: int = 1) -> torch.optim.Optimizer:
    """Return the recipe's optimiser, with one fused kernel per step where PyTorch has it.

    Args:
        parameters: What it holds.
        recipe: Kind, rates, weight decay.
        axes: Up to how many axes a parameter counts as a vector for `decay_vectors`; 2 where models are stacked.
    """
    fused = all(p.device.type in {"cpu", "cuda"} and p.dtype == torch.float32 for p in parameters)
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": fused}
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if not recipe.decay_vectors:
        vectors = [p for p in parameters if p.ndim <= axes]
        others = [p for p in parameters if p.ndim > axes]
        groups = [g for g in ({"params": others}, {"params": vectors, "weight_decay": 0.0}) if g["params"]]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, **shared)
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, **shared)
    return torch.optim.AdamW(groups, **shared)


def scheduler_of(
    optimiser: torch.optim.Optimizer, recipe: Recipe, total_steps: int, steps_per_epoch: int
) -> LRScheduler | None:
    """Return the recipe's schedule, to be stepped after every optimiser step but the last; None if it is constant."""
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=max(total_steps, 1))
    if recipe.schedule == "step":
        return MultiStepLR(optimiser, [round(m * steps_per_epoch) for m in recipe.milestones], recipe.gamma)
    if recipe.schedule == "one-cycle":
        # PyTorch puts the lowest rate at step total - 1; one more, so that the last step still moves.
        return OneCycleLR(
            optimiser, recipe.lr, total_steps=total_steps + 1, pct_start=recipe.warm_up, cycle_momentum=False
        )
    return None
