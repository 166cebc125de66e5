"""Does this model fit this data? Asked before any work begins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from efface.errors import InputError
from efface.models.checkpoints import diverged
from efface.models.mode import evaluating
from efface.running.seeding import seeded

__all__ = ["answer", "check_model"]


def check_model(
    model: nn.Module, input_shape: Sequence[int], num_classes: int, input_dtype: torch.dtype | None = None
) -> None:
    """Run the model once on two zero inputs in eval mode, and insist on finite weights and (2, num_classes) logits.

    Args:
        model: Any module; its weights, buffers and modes stay as they are.
        input_shape: Shape of one input, without the batch axis.
        num_classes: How many classes the data has.
        input_dtype: Type of the data's inputs: float32, or int64 for token ids; None where it is not known, and then
            either will do.

    Warns:
        UserWarning: The outputs look like probabilities: numbers from 0 to 1 that sum to one for each input.

    Raises:
        InputError: NaN or infinite weights (named), inputs that the model cannot take, or an output of another shape.
    """
    bad = diverged(model)
    if bad:
        raise InputError(
            f"The model's weights hold NaN or infinite values in {', '.join(bad[:8])}"
            f"{f' and {len(bad) - 8} more' if len(bad) > 8 else ''}. Give a model from before training diverged."
        )
    output = answer(model, tuple(input_shape), input_dtype)
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
    if num_classes > 1 and bool((output >= 0).all()) and torch.allclose(output.sum(1).double(), torch.ones(2).double()):
        warnings.warn(
            f"The model {type(model).__name__} returned probabilities: rows of numbers from 0 to 1 that sum to one. "
            "Efface takes outputs as logits and would apply softmax a second time, in training and in every score. "
            "Leave the softmax out of the model: its loss and Efface apply their own.",
            stacklevel=2,
        )


def answer(model: nn.Module, input_shape: tuple[int, ...], input_dtype: torch.dtype | None) -> object:
    """Return what the model says about two zero inputs, in eval mode; the caller's random numbers stay.

    Args:
        model: Any module.
        input_shape: Shape of one input.
        input_dtype: Type of the data's inputs; None to try floats, then integers.

    Raises:
        InputError: It cannot take them.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
    failure: Exception | None = None
    # A model that draws random numbers in its forward pass must not change the caller's.
    with evaluating(model), torch.no_grad(), seeded(0):
        for dtype in (like.dtype, torch.int64) if input_dtype is None else (input_dtype,):
            probe = torch.zeros((2, *input_shape), device=like.device, dtype=dtype)
            try:
                output: object = model(probe)
                return output
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
                failure = failure or error
    kind = "token ids (int64)" if input_dtype == torch.int64 else "inputs"
    raise InputError(
        f"The model {type(model).__name__} cannot take {kind} of shape {(2, *input_shape)} as this data has: "
        f"{(str(failure) or type(failure).__name__).splitlines()[0]}. Choose a model for inputs of shape "
        f"{input_shape}, or change the data's size or channels."
    ) from failure
