"""Scrubbing by Gaussian noise: how much each weight may move."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.models.head import head_of

__all__ = ["NoiseRule", "add_noise", "head_parameters"]

Vectors = Mapping[str, Tensor]


@dataclass(frozen=True)
class NoiseRule:
    """From a Fisher diagonal F to the variance of every weight's noise.

    v = min((F + floor)^-exponent, largest), for the head min(·, largest_head);  v ← alpha v;
    then, if `average`, every tensor with an input axis has v replaced by its mean over that axis (1);
    then v ← boost v for the head and for all vectors (biases, normalisation).

    The paper's optimum is exponent 1/2 without the rest; the published code has exponent 1 and these values.

    Attributes:
        alpha: Scale of the variance.
        exponent: Power of the Fisher diagonal.
        floor: Added to F, so that weights without influence have a finite variance.
        largest: Largest variance before scaling.
        largest_head: The same for the head.
        average: Average over the input axis.
        boost: Factor for the head and for vectors.
    """

    alpha: float
    exponent: float = 1.0
    floor: float = 1e-8
    largest: float = 1e3
    largest_head: float = 1e2
    average: bool = True
    boost: float = 10.0

    def variances(self, fisher: Vectors, head: Collection[str]) -> dict[str, Tensor]:
        """Return v by parameter name, shaped like F.

        Args:
            fisher: Diagonal by parameter name.
            head: Names of the head's parameters.
        """
        found = {}
        for name, diagonal in fisher.items():
            v = (diagonal + self.floor).pow(-self.exponent).clamp_(max=self.largest)
            if name in head:
                v = v.clamp_(max=self.largest_head)
            v = self.alpha * v
            if self.average and v.ndim > 1:
                v = v.mean(1, keepdim=True).expand_as(diagonal).clone()
            if name in head or v.ndim == 1:
                v = self.boost * v
            found[name] = v
        return found


def add_noise(model: nn.Module, variances: Vectors, generator: torch.Generator) -> None:
    """Add independent Gaussian noise to a model's parameters in place.

    Args:
        model: Its parameters named in `variances` are changed.
        variances: By parameter name, shaped like the parameters.
        generator: On the CPU; the same draw on every device.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, v in variances.items():
            parameter = parameters[name]
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((v.sqrt() * noise.to(v.device, v.dtype)).to(parameter.dtype))


def head_parameters(model: nn.Module, input_shape: Sequence[int]) -> frozenset[str]:
    """Return the full names of the parameters of the linear layer that makes the logits.

    Args:
        model: From inputs to logits.
        input_shape: Of one input.

    Raises:
        InputError: The logits do not come from a linear layer.
    """
    name, layer = head_of(model, input_shape)
    return frozenset(f"{name}.{key}" if name else key for key, _ in layer.named_parameters())
