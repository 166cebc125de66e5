"""One class more for a classifier, for as long as it is needed."""

from __future__ import annotations

import math

import torch
from torch import nn

from efface.errors import InputError

__all__ = ["narrow", "widen"]


def widen(model: nn.Module, name: str, generator: torch.Generator) -> None:
    """Give the head of a model one more output, in place; the old logits stay bit for bit.

    The new row is Xavier-normal, N(0, 2 / (d + K + 1)) for d features and K classes, its bias 0.

    Args:
        model: Any module.
        name: Its head, as `efface.models.head` names it.
        generator: Source of the row, on the CPU.

    Raises:
        InputError: The model is itself its head, and cannot be given another.
    """
    old = _head(model, name)
    k, d = old.weight.shape
    row = torch.randn(1, d, generator=generator) * math.sqrt(2 / (d + k + 1))
    _replace(model, name, torch.cat([old.weight.detach(), row.to(old.weight)]), 1)


def narrow(model: nn.Module, name: str) -> None:
    """Delete the last output of the head, in place; the other logits stay bit for bit."""
    _replace(model, name, _head(model, name).weight.detach()[:-1].clone(), -1)


def _head(model: nn.Module, name: str) -> nn.Linear:
    if not name:
        raise InputError(
            "the model is a single linear layer, which cannot be exchanged inside it; wrap it in nn.Sequential, or use "
            "boundary-shrink"
        )
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def _replace(model: nn.Module, name: str, weight: torch.Tensor, by: int) -> None:
    old = _head(model, name)
    # On the meta device: no random number is drawn for weights that are replaced at once.
    new = nn.Linear(old.in_features, len(weight), bias=old.bias is not None, device="meta")
    new.weight = nn.Parameter(weight, requires_grad=old.weight.requires_grad)
    if old.bias is not None:
        bias = old.bias.detach()
        bias = torch.cat([bias, bias.new_zeros(1)]) if by > 0 else bias[:-1].clone()
        new.bias = nn.Parameter(bias, requires_grad=old.bias.requires_grad)
    new.train(old.training)
    model.set_submodule(name, new)
