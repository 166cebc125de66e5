"""Does this model fit this data? Asked before any work begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from efface.errors import InputError
from efface.models.checkpoints import nonfinite
from efface.models.mode import evaluating
from efface.running.seeding import seeded

__all__ = ["check_model"]


def check_model(model: nn.Module, input_shape: Sequence[int], num_classes: int) -> None:
    """Run the model once on two zero inputs in eval mode, and insist on finite weights and (2, num_classes) logits.

    Args:
        model: Any module; its weights, buffers and modes stay as they are.
        input_shape: Shape of one input, without the batch axis.
        num_classes: How many classes the data has.

    Raises:
        InputError: NaN or infinite weights (named), inputs that the model cannot take, or an output of another shape.
    """
    bad = nonfinite(model.state_dict())
    if bad:
        raise InputError(
            f"The model's weights hold NaN or infinite values in {', '.join(bad[:8])}"
            f"{f' and {len(bad) - 8} more' if len(bad) > 8 else ''}. Give a model from before training diverged."
        )
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
    probe = torch.zeros((2, *input_shape), device=like.device, dtype=like.dtype)
    # A model that draws random numbers in its forward pass must not change the caller's.
    with evaluating(model), torch.no_grad(), seeded(0):
        try:
            output = model(probe)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise InputError(
                f"The model {type(model).__name__} cannot take inputs of shape {tuple(probe.shape)} as this data has: "
                f"{(str(error) or type(error).__name__).splitlines()[0]}. Choose a model for inputs of shape "
                f"{tuple(input_shape)}, or change the data's size or channels."
            ) from error
    if not isinstance(output, torch.Tensor):
        raise InputError(
            f"The model {type(model).__name__} returned {type(output).__name__} instead of one tensor of logits. "
            "Wrap it in a module that returns the logits alone."
        )
    if tuple(output.shape) != (2, num_classes):
        raise InputError(
            f"The model {type(model).__name__} returned shape {tuple(output.shape)} for two inputs, but the data has "
            f"{num_classes} classes: the logits must be of shape (2, {num_classes}). Build the model with "
            f"num_classes={num_classes}, or replace its last layer."
        )
