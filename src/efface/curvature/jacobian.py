"""The network as a linear function of its weights: Jacobian rows, products with the Jacobian and its transpose."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from efface.curvature.chunks import require_eval
from efface.curvature.layer_gradients import Outer
from efface.curvature.recording import Recorder, trainable
from efface.curvature.squared_gradients import layer_blocks
from efface.models.functional import call_with

__all__ = ["Linearisation"]

_WORKSPACE = 2**22  # numbers per piece of per-sample blocks


class Linearisation:
    """f(x; w + v) ≈ f(x; w) + J(x) v, J(x) = ∂f/∂w of shape (K, P), on a copy of the model.

    Vectors (P,) hold the chosen parameters one after the other, in the model's order; they, and all results, are
    float64 whatever the precision of the network.

    Args:
        model: From inputs to logits (n, K), in eval mode; not changed.
        parameters: Names of the parameters that w consists of; by default every trainable one.
        dtype: In which the network is evaluated: float64, or float32, which is many times faster for convolutions.

    Raises:
        InputError: Train mode, or an unknown parameter.
    """

    def __init__(
        self, model: nn.Module, parameters: Iterable[str] | None = None, dtype: torch.dtype = torch.float64
    ) -> None:
        require_eval(model)
        self.dtype = dtype
        self.model = copy.deepcopy(model).to(dtype)
        wanted = trainable(self.model, None if parameters is None else frozenset(parameters))
        self.parameters = {n: p for n, p in self.model.named_parameters() if n in wanted}
        starts = [0]
        for p in self.parameters.values():
            starts.append(starts[-1] + p.numel())
        self.size = starts[-1]
        self._slices = {n: slice(a, b) for n, a, b in zip(self.parameters, starts, starts[1:], strict=False)}

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """Return named tensors as one vector (P,), float64, on the model's device."""
        like = next(iter(self.parameters.values()))
        return torch.cat([named[n].detach().to(like.device, torch.float64).reshape(-1) for n in self.parameters])

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector (P,) as tensors shaped like the parameters."""
        return {n: vector[s].view(self.parameters[n].shape) for n, s in self._slices.items()}

    def weights(self) -> Tensor:
        """Return w (P,)."""
        return self.flat(self.parameters)

    def logits(self, x: Tensor) -> Tensor:
        """Return f(x; w) (b, K)."""
        with torch.no_grad():
            out: Tensor = self.model(x.to(self.dtype))
        return out.double()

    def rows(self, x: Tensor) -> Tensor:
        """Return J of every sample, (b, K, P): K backward passes with closed forms by layer, torch.func for the rest.

        Args:
            x: Inputs (b, ...); the caller keeps b K P numbers within memory.
        """
        x = x.to(self.dtype)
        with Recorder(self.model, self.parameters) as recorder:
            logits = recorder.forward(x)
            found = torch.zeros(len(x), logits.shape[1], self.size, dtype=torch.float64, device=x.device)
            for c in range(logits.shape[1]):

                def visit(module: nn.Module, a: Tensor, g: Tensor, c: int = c) -> None:
                    own = recorder.layers[module]
                    for block in layer_blocks(module, a, g, frozenset(own), _WORKSPACE):
                        name = own[block.name]
                        target = found[:, c, self._slices[name]].unflatten(1, self.parameters[name].shape)
                        if isinstance(block, Outer):
                            torch.mul(block.g.unsqueeze(2), block.a.unsqueeze(1), out=target)
                        else:
                            stop = block.start + len(block.gradients)
                            target[(slice(block.start, stop), *block.where)].copy_(block.gradients)

                recorder.backward(logits[:, c], visit, again=c + 1 < logits.shape[1])
            rest = sorted(recorder.rest)
        if rest:
            for name, value in self._by_func(rest, x).items():
                found[:, :, self._slices[name]] = value.reshape(*found.shape[:2], -1)
        return found

    def times(self, x: Tensor, vector: Tensor) -> Tensor:
        """Return J(x) v (b, K): one forward-mode pass, or two backward ones where a layer has no forward mode."""

        def outputs(parameters: dict[str, Tensor]) -> Tensor:
            out: Tensor = call_with(self.model, parameters, x.to(self.dtype))
            return out

        tangent = {n: v.to(self.dtype) for n, v in self.named(vector).items()}
        try:
            with torch.no_grad():
                product: Tensor = jvp(outputs, ({n: p.detach() for n, p in self.parameters.items()},), (tangent,))[1]
        except NotImplementedError:  # a fused kernel, as of attention, without forward mode
            product = self._times_backward(x, tangent)
        return product.double()

    def _times_backward(self, x: Tensor, tangent: Mapping[str, Tensor]) -> Tensor:
        """Return J(x) v as the derivative of ⟨Jᵀu, v⟩ in u, by differentiating a backward pass."""
        parameters = list(self.parameters.values())
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            out = self.model(x.to(self.dtype))
            u = torch.zeros_like(out, requires_grad=True)
            gradients = torch.autograd.grad(out, parameters, u, create_graph=True)
            inner = torch.stack([(g * tangent[n]).sum() for n, g in zip(self.parameters, gradients, strict=True)]).sum()
            return torch.autograd.grad(inner, u)[0]

    def transposed(self, x: Tensor, u: Tensor) -> Tensor:
        """Return Σ_i J(x_i)ᵀ u_i (P,), one backward pass.

        Args:
            x: Inputs (b, ...).
            u: (b, K).
        """
        with torch.enable_grad():
            value = (self.model(x.to(self.dtype)) * u.to(self.dtype)).sum()
            gradients = torch.autograd.grad(value, list(self.parameters.values()))
        return torch.cat([g.reshape(-1) for g in gradients]).double()

    def write(self, model: nn.Module, vector: Tensor) -> None:
        """Copy a vector of weights (P,) into a model of the same architecture, in place and in its own precision."""
        with torch.no_grad():
            for name, value in self.named(vector).items():
                model.get_parameter(name).copy_(value)

    def gap(self, shift: Tensor, inputs: Iterable[Tensor]) -> float:
        """Return how far from linear the network is over a shift: ‖J v - (f(w+v) - f(w))‖ / ‖J v‖ over the inputs.

        0 for a linear model and for a shift that moves no logit; above 1 the linear prediction is worse than none.

        Args:
            shift: v (P,).
            inputs: Batches of inputs.
        """
        moved = copy.deepcopy(self.model)
        self.write(moved, self.weights() + shift)
        missed = predicted = 0.0
        for x in inputs:
            product = self.times(x, shift)
            with torch.no_grad():
                missed += float((product - (moved(x.to(self.dtype)).double() - self.logits(x))).square().sum())
            predicted += float(product.square().sum())
        return (missed / predicted) ** 0.5 if predicted > 0 else 0.0

    def _by_func(self, names: list[str], x: Tensor) -> dict[str, Tensor]:
        chosen = {n: self.parameters[n].detach() for n in names}

        def outputs(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
            out: Tensor = call_with(self.model, parameters, sample.unsqueeze(0))
            return out.squeeze(0)

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule
            found: dict[str, Tensor] = vmap(jacrev(outputs), in_dims=(None, 0))(chosen, x)
        return {n: v.detach() for n, v in found.items()}
