"""K-FAC: the Fisher matrix of a layer as a Kronecker product, F ≈ A ⊗ G, with damped inverses and roots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from efface.curvature.chunks import (
    MEMORY,
    Batches,
    ChunkSize,
    chunks,
    device_of,
    require_eval,
    require_finite,
    require_labels,
)
from efface.curvature.fisher import Estimator, passes
from efface.curvature.layer_gradients import conv_patches
from efface.curvature.recording import Recorder
from efface.curvature.squared_gradients import target_losses
from efface.errors import InputError, nearest
from efface.running.ranks import Ranks, reduced

__all__ = ["KroneckerFactors", "Sharing", "kfac", "precondition"]

Sharing = Literal["expand", "reduce"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class KroneckerFactors:
    """The two factors of one layer, for its weight W (O, I·kernel) with the bias as a last column.

    Attributes:
        A: Second moment of the layer's inputs (patches), (I·kernel [+ 1], same), float64.
        G: Second moment of the gradients at its output, (O, O), float64.
        bias: Whether the last row and column of A belong to the bias.
    """

    A: Tensor
    G: Tensor
    bias: bool

    def matrix(self) -> Tensor:
        """Return A ⊗ G as one matrix over W's columns, stacked: entry (i·O + o, i'·O + o') = A[i, i'] G[o, o']."""
        return torch.kron(self.A, self.G)

    def diagonal(self) -> Tensor:
        """Return its diagonal as a matrix shaped like [W b]. Not the Fisher diagonal: E[a²]E[g²], not E[a²g²]."""
        return torch.outer(self.G.diagonal(), self.A.diagonal())

    def damped(self, damping: float) -> KroneckerFactors:
        """Return the factors of (A + π√λ I) ⊗ (G + √λ/π I), π² = (tr A / dim A) / (tr G / dim G).

        Args:
            damping: λ > 0.

        Raises:
            InputError: λ is not positive.

        Source: Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015,
        section 6.3.
        """
        if not damping > 0:
            raise InputError(f"damping={damping}: must be positive, since the factors are singular in general.")
        means = self.A.diagonal().mean(), self.G.diagonal().mean()
        pi = torch.sqrt(means[0] / means[1]) if means[0] > 0 and means[1] > 0 else means[0].new_ones(())
        A = self.A + pi * damping**0.5 * torch.eye(len(self.A), dtype=self.A.dtype, device=self.A.device)
        G = self.G + damping**0.5 / pi * torch.eye(len(self.G), dtype=self.G.dtype, device=self.G.device)
        return replace(self, A=A, G=G)

    def power(self, exponent: float, damping: float) -> KroneckerFactors:
        """Return the factors of the damped product to a power: −1 is its inverse, −1/2 the inverse square root.

        Noise with covariance F⁻¹ is `power(-0.5, λ).apply(Z)` with Z standard normal.

        Args:
            exponent: Any real number.
            damping: λ > 0, see `damped`.
        """
        damped = self.damped(damping)
        return replace(damped, A=_power(damped.A, exponent), G=_power(damped.G, exponent))

    def apply(self, matrix: Tensor) -> Tensor:
        """Return (A ⊗ G) times a matrix shaped like [W b], (O, I·kernel [+ 1]): G M A."""
        return (self.G @ matrix.to(self.G.dtype) @ self.A).to(matrix.dtype)


def kfac(
    model: nn.Module,
    data: Tensor | Batches,
    labels: Tensor | None = None,
    *,
    estimator: Estimator = "true",
    sharing: Sharing = "expand",
    draws: int = 1,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
    chunk: int | None = None,
    fabric: Ranks | None = None,
) -> dict[str, KroneckerFactors]:
    """Return the K-FAC factors of every trainable Linear, Conv1d and Conv2d layer, by module name.

    With a the layer's input (with a 1 for the bias; patches for convolutions), g the gradient of −log p at its output,
    n samples and T positions per sample (1 for a Linear layer on vectors):

    - ``expand``: A = (1/nT) Σ_i Σ_t a_it a_itᵀ and G = (1/n) Σ_i Σ_t E[g_it g_itᵀ];
    - ``reduce``: A = (1/n) Σ_i ā_i ā_iᵀ with ā the mean over positions and G = (1/n) Σ_i E[ĝ_i ĝ_iᵀ] with ĝ the sum.

    The expectation over labels is that of the estimator (see `fisher_diagonal`; `batch_squared` has none). A Linear
    layer on vectors with one sample has exactly the Fisher block A ⊗ G.

    Args:
        model: In eval mode.
        data: Inputs (n, ...), or an iterable of (inputs, labels) batches.
        labels: Labels (n,), when `data` is a tensor.
        estimator: "true", "mc" or "empirical".
        sharing: How positions that share a weight are treated.
        draws: Labels drawn per sample, for `mc`.
        generator: Where they are drawn from.
        memory: Budget in bytes for one chunk of samples.
        chunk: Fixed number of samples per chunk.
        fabric: With several processes: see `fisher_diagonal`.

    Raises:
        InputError: As `fisher_diagonal`; also a layer that shares its weight or runs twice, grouped convolutions, or a
            model without such layers.

    Source: Eschenhagen et al., "Kronecker-Factored Approximate Curvature for Modern Neural Network Architectures",
    arXiv 2311.00636, equations 9 and 10.
    """
    if sharing not in get_args(Sharing):
        raise InputError(f"Unknown sharing {sharing!r}. {nearest(str(sharing), get_args(Sharing))}")
    if estimator not in ("true", "mc", "empirical"):
        raise InputError(f"Unknown estimator {estimator!r} for K-FAC. Allowed: empirical, mc, true.")
    if estimator == "mc" and (generator is None or draws < 1):
        raise InputError(f"estimator='mc' needs a torch.Generator and draws >= 1, got draws={draws}. Pass both.")
    require_eval(model)
    wanted = _weights(model)
    rank, world = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
    size = ChunkSize(memory, chunk, cached=device_of(model).type == "cpu")
    A: dict[nn.Module, Tensor] = {}
    G: dict[nn.Module, Tensor] = {}
    samples = 0
    with Recorder(model, wanted) as recorder:
        stream = chunks(
            model,
            data,
            labels,
            size,
            rank=rank,
            world=world,
            draws=draws if estimator == "mc" else 0,
            generator=generator,
        )
        for part in stream:
            logits = recorder.forward(part.x)
            size.observe(len(part), recorder.held)
            require_labels(part.y, logits.shape[1])
            if recorder.rest:
                raise InputError(
                    f"{sorted(recorder.rest)[0]!r} is used in several places, which K-FAC does not cover. "
                    "Freeze it with requires_grad_(False)."
                )
            samples += len(part)
            todo = list(passes(estimator, part, logits))
            for j, (targets, scales) in enumerate(todo):
                losses = target_losses(logits, targets)
                require_finite(losses, part.positions)

                def visit(module: nn.Module, a: Tensor, g: Tensor, first: bool = j == 0) -> None:
                    if first:
                        _add(A, module, _input_moment(module, a, sharing))
                    _add(G, module, _output_moment(module, g, sharing))

                recorder.backward(losses * scales, visit, again=j + 1 < len(todo))
    total = reduced(torch.tensor([float(samples)], device=device_of(model)), fabric).item()
    names = {module: name for name, module in model.named_modules()}
    return {
        names[module]: KroneckerFactors(
            reduced(A[module], fabric) / total, reduced(G[module], fabric) / total, "bias" in own
        )
        for module, own in recorder.layers.items()
    }


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return weights and biases of the trainable layers that have factors."""
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if type(module) in _LAYERS:
            assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
            if not module.weight.requires_grad:
                continue
            if not isinstance(module, nn.Linear) and module.groups != 1:
                raise InputError(f"{name!r} is a grouped convolution, which K-FAC does not cover. Freeze it.")
            found |= {f"{name}.{k}" if name else k: p for k, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise InputError("The model has no trainable Linear, Conv1d or Conv2d layer, which K-FAC is for.")
    return found


def _add(sums: dict[nn.Module, Tensor], module: nn.Module, value: Tensor) -> None:
    sums[module] = sums[module] + value if module in sums else value


def _input_moment(module: nn.Module, a: Tensor, sharing: Sharing) -> Tensor:
    """Return Σ_i of the sample's second moment of inputs, over positions or of their mean."""
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    rows = a.flatten(1, -2) if a.ndim > 2 else a.unsqueeze(1)
    if not isinstance(module, nn.Linear):
        rows = conv_patches(module, a).squeeze(1).transpose(1, 2)  # (b, positions, kernel)
    if module.bias is not None and module.bias.requires_grad:
        rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], 2)
    positions = rows.shape[1]
    rows = rows.mean(1) if sharing == "reduce" else rows.flatten(0, 1)
    return (rows.T @ rows).double() / (1 if sharing == "reduce" else positions)


def _output_moment(module: nn.Module, g: Tensor, sharing: Sharing) -> Tensor:
    rows = g.flatten(1, -2) if isinstance(module, nn.Linear) and g.ndim > 2 else g.unsqueeze(1)
    if not isinstance(module, nn.Linear):
        rows = g.flatten(2).transpose(1, 2)
    rows = rows.sum(1) if sharing == "reduce" else rows.flatten(0, 1)
    return (rows.T @ rows).double()


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=torch.finfo(values.dtype).tiny) ** exponent) @ vectors.T


def precondition(factors: Mapping[str, KroneckerFactors], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Apply every layer's A ⊗ G to a vector over parameters, e.g. gradients; with `power(-1, λ)` a Newton step.

    Args:
        factors: By layer, see `kfac`.
        gradients: By parameter name, shaped like the parameters; must hold every layer's weight and bias.

    Returns:
        The same names and shapes; parameters of other layers are left out.

    Raises:
        InputError: A layer's weight or bias is missing.
    """
    found: dict[str, Tensor] = {}
    for layer, own in factors.items():
        names = [f"{layer}.{key}" if layer else key for key in ("weight", *(["bias"] if own.bias else []))]
        missing = [name for name in names if name not in gradients]
        if missing:
            raise InputError(f"{missing[0]!r} is missing among the {len(gradients)} gradients. Pass it too.")
        weight = gradients[names[0]]
        matrix = torch.cat([weight.flatten(1), *(gradients[name].unsqueeze(1) for name in names[1:])], 1)
        moved = own.apply(matrix)
        found[names[0]] = moved[:, : weight[0].numel()].reshape(weight.shape)
        if own.bias:
            found[names[1]] = moved[:, -1]
    return found
