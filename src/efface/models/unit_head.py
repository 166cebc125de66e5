"""A head on features of unit length: logits are inner products with normalised features, without a bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.models.head import head

__all__ = ["UnitHead", "UnitNorm", "with_unit_head"]


class UnitNorm(nn.Module):
    """h / ‖h‖₂ of every sample, (N, ...) -> (N, d); a row of zeros stays zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the flattened rows at unit length."""
        return F.normalize(x.flatten(1), dim=1)


class UnitHead(nn.Sequential):
    """W h / ‖h‖₂: with the rows of W at one length s, the logits are s times cosines.

    Args:
        weight: (K, d), copied; it may come from the head that this one replaces.
    """

    def __init__(self, weight: Tensor) -> None:
        classes, features = weight.shape
        linear = nn.utils.skip_init(nn.Linear, features, classes, bias=False, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight)
        super().__init__(UnitNorm(), linear)

    @property
    def linear(self) -> nn.Linear:
        """The linear layer whose output is the logits."""
        layer = self[1]
        assert isinstance(layer, nn.Linear)
        return layer


def with_unit_head(model: nn.Module, example_input: Tensor) -> tuple[nn.Module, UnitHead]:
    """Put a `UnitHead` with the same weight in place of the last linear layer, in place; one that is there stays.

    Args:
        model: From inputs to logits; its head's bias is dropped.
        example_input: One or more inputs, on the model's device.

    Returns:
        The model (another one only where it is nothing but a linear layer) and its new head.

    Raises:
        InputError: The logits do not come from a linear layer.
    """
    name, layer = head(model, example_input)
    path, _, own = name.rpartition(".")
    parent = model.get_submodule(path)
    if isinstance(parent, UnitHead):
        return model, parent
    made = UnitHead(layer.weight.detach())
    if not name:
        return made, made
    setattr(parent, own, made)
    return model, made
