"""Scrubbing by Gaussian noise: how much each weight may move, the optimal shift before it, and the information left."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.head import head

__all__ = ["NoiseRule", "add_noise", "head_parameters", "information", "optimal_quadratic_scrub"]

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
    like = next(p for p in model.parameters() if p.is_floating_point())
    name, layer = head(model, torch.zeros(2, *input_shape, device=like.device, dtype=like.dtype))
    return frozenset(f"{name}.{key}" if name else key for key, _ in layer.named_parameters())


def information(mean: Vectors, variance: Vectors, other_mean: Vectors, other_variance: Vectors) -> float:
    """Return KL(N(mean, variance) ‖ N(other_mean, other_variance)) of diagonal Gaussians, in nats.

    ½ Σ_i [ (μ_i - μ'_i)² / v'_i + v_i / v'_i - ln(v_i / v'_i) - 1 ]

    With the scrubbed weights first and a retrained model's weights second, it bounds what any readout can still learn
    about the forgotten data (the published notebook leaves out the ½). It needs the retrained weights: an evaluation,
    never a certificate.

    Args:
        mean: μ by parameter name.
        variance: v, likewise, positive.
        other_mean: μ'.
        other_variance: v', positive.

    Raises:
        InputError: A variance is not positive.

    Source: Golatkar et al., CVPR 2020, section 4.
    """
    total = 0.0
    for name, v in variance.items():
        v, w = v.double(), other_variance[name].double()
        if not bool((v > 0).all() and (w > 0).all()):
            raise InputError(f"a variance of {name} is not positive, so the information is infinite; use alpha > 0")
        distance = (mean[name].double() - other_mean[name].double()).square()
        total += 0.5 * float((distance / w + v / w - (v / w).log() - 1).sum())
    return total


def optimal_quadratic_scrub(
    weights: Tensor, hessian: Tensor, hessian_retain: Tensor, gradient: Tensor, gradient_retain: Tensor, time: float
) -> Tensor:
    """Return where gradient flow on the kept data alone would have led, for quadratic losses: the optimal shift h(w).

    d = A⁻¹ ∇L_D(w),  d_r = B⁻¹ ∇L_{D_r}(w),
    h(w) = w - d_r + exp(-B t) exp(A t) d + exp(-B t) (d_r - d)   →   w - B⁻¹ ∇L_{D_r}(w)  for t → ∞.

    Args:
        weights: w (P,), reached by gradient flow on L_D for the given time.
        hessian: A = ∇²L_D (P, P), symmetric positive definite.
        hessian_retain: B = ∇²L_{D_r}, likewise.
        gradient: ∇L_D(w) (P,).
        gradient_retain: ∇L_{D_r}(w) (P,).
        time: t of the flow; infinity gives the Newton step. exp(A t) overflows for large finite t.

    Returns:
        h(w) (P,).

    Source: Golatkar et al., CVPR 2020, proposition 2; the sign of the last bracket is verified by a test.
    """
    shift_retain = torch.linalg.solve(hessian_retain, gradient_retain)
    if time == float("inf"):
        return weights - shift_retain
    shift = torch.linalg.solve(hessian, gradient)
    decay = torch.linalg.matrix_exp(-hessian_retain * time)
    grown = decay @ (torch.linalg.matrix_exp(hessian * time) @ shift)
    return weights - shift_retain + grown + decay @ (shift_retain - shift)
