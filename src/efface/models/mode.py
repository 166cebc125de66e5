"""Evaluation mode, of a whole model or of its BatchNorm layers, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["batch_norm_evaluating", "evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a block with the model in eval mode, and give every module its own mode back when the block ends.

    `model.train()` afterwards would not do: a user may keep some modules in eval mode, e.g. frozen normalisation.

    Args:
        model: Any module.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def batch_norm_evaluating(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Run a block with the model's BatchNorm layers in eval mode: they normalise by, and keep, their statistics.

    Args:
        model: Any module.
        wanted: False to change nothing, so that a method's switch needs no second branch.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for layer in layers if wanted else ():
        layer.eval()
    try:
        yield
    finally:
        for layer in layers if wanted else ():
            layer.train()
