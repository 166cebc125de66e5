"""The zero-and-restore loop: the definition of ablation importance, and the fallback for models that cannot be cut."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from efface.importance.effects import Effects
from efface.importance.units import Unit, zeroed

__all__ = ["naive_effects"]


def naive_effects(model: nn.Module, x: Tensor, effects: Effects, units: Sequence[Unit], rows: Sequence[int]) -> None:
    """Add the effect of zeroing each unit, with one full forward pass per unit.

    Args:
        model: In eval mode; restored bit by bit.
        x: One chunk of inputs.
        effects: Holds the baseline of the chunk; receives the results.
        units: What to zero, one at a time.
        rows: The units' rows in `effects`.
    """
    samples = torch.arange(len(x), device=x.device)
    for row, unit in zip(rows, units, strict=True):
        with zeroed(model, [unit]), torch.no_grad():
            effects.add(torch.full_like(samples, row), samples, model(x))
