"""Evaluation mode for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


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
