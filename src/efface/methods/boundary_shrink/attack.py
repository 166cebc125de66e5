"""Adversarial images: the smallest honest step from an image towards the class next to its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data import ArraySamples, Part
from efface.data.epoch import Epoch
from efface.data.planted import PlantedSamples
from efface.models.mode import evaluating

__all__ = ["PixelSpace", "attacked", "curvature"]


@dataclass(frozen=True)
class PixelSpace:
    """Where valid inputs lie, in the numbers that the network gets; pixels in [0, 1] are (x - low) / unit.

    Attributes:
        low: What a pixel of 0 becomes; (C, 1, 1) for images, otherwise a scalar.
        unit: What a pixel step of 1 becomes, same shape.
        known: Whether it comes from the data's own constants; otherwise from the range of the values seen.
    """

    low: Tensor
    unit: Tensor
    known: bool

    @classmethod
    def of(cls, part: Part, device: torch.device | str = "cpu", size: int = 1000) -> PixelSpace:
        """Return the space of a part's inputs.

        uint8 samples know their normalisation: low = -mean / std, unit = 1 / std. For any other data the smallest and
        the largest value in the part, per channel, are taken for the pixels 0 and 1.

        Args:
            part: The samples; read only if their constants are not known.
            device: Where the result is wanted.
            size: Samples per batch.
        """
        samples = part.samples.samples if isinstance(part.samples, PlantedSamples) else part.samples
        if isinstance(samples, ArraySamples) and samples.inputs.dtype == torch.uint8:
            mean, std = (torch.tensor(v or (d,), device=device) for v, d in ((samples.mean, 0.0), (samples.std, 1.0)))
            shape = (-1, *[1] * (samples.inputs.ndim - 2)) if samples.inputs.ndim > 2 else (-1,)
            return cls((-mean / std).reshape(shape), (1 / std).reshape(shape), True)
        lows, highs = [], []
        for x, _ in part.batches(Epoch(size, device=device)):
            each = x.transpose(0, 1).flatten(1) if x.ndim == 4 else x.flatten()[None]
            lows.append(each.amin(1))
            highs.append(each.amax(1))
        low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
        if len(samples.input_shape) == 3:
            low, high = low[:, None, None], high[:, None, None]
        return cls(low, high - low, False)

    def pixels(self, x: Tensor) -> Tensor:
        """Return inputs as pixels; valid ones lie in [0, 1]."""
        return (x - self.low) / torch.where(self.unit == 0, 1, self.unit)


def attacked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    space: PixelSpace,
    bound: float,
    *,
    steps: int = 1,
    step: float | None = None,
) -> Tensor:
    """Return images within `bound` of the given ones on which the model in eval mode errs more.

    x' <- clip_valid(clip_bound(x' + step sign(grad_x CE(f(x'), y)))), `steps` times from x' = x.

    Args:
        model: From inputs to logits, on the device of x; its weights get no gradient.
        x: (B, ...) inputs.
        y: (B,) labels to move away from.
        space: Where valid inputs lie; bound and step are in its pixels.
        bound: Largest change of a pixel, epsilon.
        steps: 1 is the fast gradient sign method, more is projected gradient descent.
        step: Size of each step; `bound` by default.

    Returns:
        (B, ...), no further than bound from x and within the valid range, both in pixels.

    Source: Goodfellow et al., arXiv 1412.6572; Madry et al., arXiv 1706.06083.
    """
    size, reach = (bound if step is None else step) * space.unit, bound * space.unit
    moved = x.detach()
    with evaluating(model):
        for _ in range(steps):
            moved.requires_grad_(True)
            (slope,) = torch.autograd.grad(F.cross_entropy(model(moved), y, reduction="sum"), moved)
            moved = moved.detach() + size * slope.sign()
            moved = torch.maximum(torch.minimum(moved, x + reach), x - reach)
            moved = torch.maximum(torch.minimum(moved, space.low + space.unit), space.low)
    return moved.detach()


def curvature(model: nn.Module, x: Tensor, y: Tensor, distance: float, *, differentiable: bool = False) -> Tensor:
    """Return how much the slope of the loss changes towards the adversarial direction, for every image.

    kappa(x) = ||grad_x [CE(f(x + h z), y) - CE(f(x), y)]||, z = sign(grad_x CE) / ||sign(grad_x CE)||

    Args:
        model: From inputs to logits, in the mode wanted.
        x: (B, ...) inputs.
        y: (B,) labels.
        distance: h, in the numbers that the network gets.
        differentiable: Whether the result can be differentiated by the weights.

    Returns:
        (B,).

    Source: Moosavi-Dezfooli et al., arXiv 1811.09716, equation 5.
    """
    x = x.detach().requires_grad_(True)
    base = F.cross_entropy(model(x), y, reduction="sum")
    (slope,) = torch.autograd.grad(base, x, retain_graph=True)
    z = slope.sign()
    z = z / z.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (x.ndim - 1))
    ahead = F.cross_entropy(model(x + distance * z), y, reduction="sum")
    (change,) = torch.autograd.grad(ahead - base, x, create_graph=differentiable)
    # The root has no derivative at zero; where both slopes agree exactly there is nothing to change.
    return (change.flatten(1).square().sum(1) + 1e-24).sqrt()
