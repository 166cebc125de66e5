"""The space in which each layer's inputs lie: second moments, their directions, and projections away from some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.curvature.chunks import Batches, require_eval
from efface.curvature.layer_gradients import conv_patches

__all__ = ["Directions", "input_directions", "project", "projection"]


@dataclass(frozen=True)
class Directions:
    """Eigenvectors of X Xᵀ for a layer's inputs X (d, n), not centred, and the share of the energy each carries.

    Attributes:
        vectors: U (G, d, d), in columns; one matrix per group of a grouped convolution, otherwise G = 1.
        shares: s_i = σ_i² / Σ σ² (G, d), in [0, 1].
    """

    vectors: Tensor
    shares: Tensor

    def importance(self, alpha: float) -> Tensor:
        """Return M = U diag(λ) Uᵀ (G, d, d), λ_i = α s_i / ((α - 1) s_i + 1), with eigenvalues in [0, 1].

        α = 1 takes the shares as they are, a large α counts all but the weakest directions in full, α = 0 none.
        """
        scaled = alpha * self.shares / ((alpha - 1) * self.shares + 1)
        return (self.vectors * scaled.unsqueeze(-2)) @ self.vectors.mT


def input_directions(
    model: nn.Module, batches: Batches, columns: int, samples: int, generator: torch.Generator
) -> dict[str, Directions]:
    """Return the directions of the inputs of every linear and convolutional layer that is called.

    A linear layer's inputs are its features (per token, where there are tokens), a convolution's are the patches that
    its kernel sees. Of each sample, at most columns/samples positions, drawn at random, are counted.

    Args:
        model: In eval mode.
        batches: Pairs of inputs and labels; labels are not used.
        columns: How many positions to count per layer, over all samples.
        samples: How many samples the batches hold.
        generator: Draws the positions, on the CPU.

    Raises:
        InputError: Train mode.
    """
    require_eval(model)
    grams: dict[str, Tensor] = {}
    most = max(1, columns // max(1, samples))
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):

            def count(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
                x = _columns(layer, args[0].detach(), most, generator)
                gram = x @ x.mT
                grams[name] = grams[name] + gram if name in grams else gram

            handles.append(module.register_forward_hook(count))
    try:
        with torch.no_grad():
            for x, _ in batches:
                model(x)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _directions(gram) for name, gram in grams.items()}


def _columns(layer: nn.Module, a: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return a layer's inputs as (G, d, n), float64, at `most` random positions of every sample."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        found = conv_patches(layer, a)
    else:
        found = a.reshape(len(a), -1, a.shape[-1]).mT.unsqueeze(1)
    positions = found.shape[-1]
    if positions > most:
        draw = torch.rand(len(found), positions, generator=generator).argsort(1)[:, :most].to(found.device)
        found = found.gather(-1, draw[:, None, None].expand(-1, *found.shape[1:3], -1))
    return found.permute(1, 2, 0, 3).flatten(2).double()


def _directions(gram: Tensor) -> Directions:
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_(min=0)
    return Directions(vectors, values / values.sum(-1, keepdim=True).clamp_(min=torch.finfo(values.dtype).tiny))


def projection(forget: Directions, retain: Directions, alpha_forget: float, alpha_retain: float) -> Tensor:
    """Return P = I - M_f (I - M_r) (G, d, d): remove what lies in the forget space and not in the retain space."""
    kept = retain.importance(alpha_retain)
    one = torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device)
    return one - forget.importance(alpha_forget) @ (one - kept)


def project(model: nn.Module, projections: Mapping[str, Tensor]) -> None:
    """Replace W by W Pᵀ, in place, in every named layer; biases stay.

    Args:
        model: Its layers' weights are changed, except frozen ones.
        projections: P (G, d, d) by layer name.
    """
    with torch.no_grad():
        for name, p in projections.items():
            weight = model.get_submodule(name).get_parameter("weight")
            if weight.requires_grad:
                rows = weight.reshape(len(p), -1, p.shape[-1]).to(p.dtype)
                weight.copy_((rows @ p.mT).reshape(weight.shape))
