"""What exact ablation costs, counted beforehand in multiplications: the same number on every machine."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from efface.curvature.chunks import require_eval
from efface.importance.units import Unit, rows_by_layer

__all__ = ["ablation_operations", "seconds_of_ablation"]

_PACE, _FAST = 2e10, 2e12
"""Multiplications per second; benchmarks/ablation.py on two cores: LeNet-5 2e10, ResNet-18 of width 16 9e10."""


def ablation_operations(model: nn.Module, x: Tensor, units: Iterable[Unit]) -> dict[str, float]:
    """Return, by layer, the multiplications per sample of ablating its units, what comes before being kept.

    Units of the layer × multiplications of all that runs after it, in products of matrices, convolutions and
    attention. The real work is less where an ablated unit changes nothing that is read on.

    Args:
        model: In eval mode.
        x: Inputs (n, ...), of which the first is used.
        units: What would be ablated.

    Raises:
        InputError: Train mode, or a unit that the model has not.
    """
    require_eval(model)
    rows = rows_by_layer(model, units)
    counter, until = FlopCounterMode(display=False), dict[str, int]()

    def reached(name: str) -> None:
        until.setdefault(name, counter.get_total_flops())

    handles = [model.get_submodule(name).register_forward_hook(lambda *_, name=name: reached(name)) for name in rows]
    try:
        with torch.no_grad(), counter:
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    total = counter.get_total_flops()
    return {name: len(own) * (total - until.get(name, total)) / 2 for name, own in rows.items()}


def seconds_of_ablation(model: nn.Module, x: Tensor, units: Iterable[Unit], samples: int) -> float:
    """Return roughly how long exact ablation takes, by its multiplications alone: the same on every machine.

    Args:
        model: In eval mode; a GPU is taken to be a hundred times as fast as two cores.
        x: Inputs (n, ...), of which the first is used.
        units: What would be ablated.
        samples: On how many samples.

    Raises:
        InputError: As `ablation_operations`.
    """
    return samples * sum(ablation_operations(model, x, units).values()) / (_PACE if x.device.type == "cpu" else _FAST)
