"""Weighted sums of squared per-sample gradients, accumulated in the model's precision and carried in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from efface.curvature.layer_gradients import Block, Outer, closed_form
from efface.curvature.sample_weights import Chosen
from efface.models.functional import call_with

__all__ = ["PieceOfSums", "SquareSums", "functional_blocks", "layer_blocks", "target_losses"]

_CPU_WORKSPACE = 2**19  # numbers per block: stays in the cache; tuned on two cores

_GPU_WORKSPACE = 2**26

_FEW = 4  # samples of a block that are added one by one


def target_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return −log p_i(target_i) per sample, (b,), in at least float32."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


class SquareSums:
    """K running sums  S_k[θ] = Σ_i w_k(i) s_i(θ)²  over the same samples, one per weight vector.

    Args:
        parameters: What is summed, by name; gives shapes and devices.
        count: K.
        dtype: Of the sums. A piece is summed in the precision of the gradients, then added; with float64 sums of long
            streams can be subtracted from one another.
    """

    def __init__(self, parameters: Mapping[str, Tensor], count: int, dtype: torch.dtype) -> None:
        self._parameters = dict(parameters)
        self._dtype = dtype
        # Sums begin with the first term added: setting them to zero first costs a pass over all weights.
        self._totals: list[dict[str, Tensor]] = [{} for _ in range(count)]
        first = next(iter(parameters.values()))
        self.workspace = _CPU_WORKSPACE if first.device.type == "cpu" else _GPU_WORKSPACE

    def finished(self) -> list[dict[str, Tensor]]:
        """Return the K sums by parameter name, in the order of the parameters; zero where nothing was added."""
        return [
            {
                name: total[name] if name in total else torch.zeros(p.shape, dtype=self._dtype, device=p.device)
                for name, p in self._parameters.items()
            }
            for total in self._totals
        ]

    def piece(self) -> PieceOfSums:
        """Return empty sums for a few blocks, to be filled and closed by one thread and then handed to `add`."""
        return PieceOfSums(self._parameters, len(self._totals), self._dtype)

    def add(self, piece: PieceOfSums) -> None:
        """Carry a closed piece into the totals; its tensors are the totals' from now on."""
        for total, partial in zip(self._totals, piece.sums, strict=True):
            for name, value in partial.items():
                if name in total:
                    total[name].add_(value)
                else:
                    total[name] = value


class PieceOfSums:
    """K sums over a few blocks of squares, in the precision of the gradients until they are closed; see `SquareSums`.

    Attributes:
        sums: One dictionary by parameter name per weight vector; parameters without a block are absent.
    """

    def __init__(self, parameters: Mapping[str, Tensor], count: int, dtype: torch.dtype) -> None:
        self._parameters = parameters
        self._dtype = dtype
        self.sums: list[dict[str, Tensor]] = [{} for _ in range(count)]
        self._written: list[set[int]] = [set() for _ in range(count)]

    def add(self, names: Mapping[str, str], block: Block | Outer, chosen: Sequence[Chosen], first: int = 0) -> None:
        """Add one block of a chunk.

        Args:
            names: The parameter's full name for the block's name.
            block: Per-sample gradients.
            chosen: For each weight vector, the chunk's samples with weight.
            first: Where the block's sample 0 stands in the chunk.
        """
        name = names[block.name]
        if isinstance(block, Outer):
            squared_g, squared_a = block.g.square(), block.a.square()
            for k, some in enumerate(chosen):
                part, w = some.within(first, first + len(squared_g))
                if len(w):
                    self._add_product(k, name, (), (squared_g[part] * w.unsqueeze(1)).T, squared_a[part])
            return
        gradients, start = block.gradients, first + block.start
        if len(gradients) <= _FEW:  # a large layer: one fused pass over each sample
            for k, some in enumerate(chosen):
                for at, gradient in enumerate(gradients, start):
                    if (value := some.value(at)) != 0:
                        into, begun = self._part(k, name, block.where, gradient.dtype)
                        if begun:
                            into.addcmul_(gradient, gradient, value=value)
                        else:
                            torch.mul(gradient, gradient * value if value != 1 else gradient, out=into)
            return
        squared = gradients.reshape(len(gradients), -1).square()  # flatten(1) refuses scalar parameters
        for k, some in enumerate(chosen):
            part, w = some.within(start, start + len(squared))
            if len(w):
                self._add_product(k, name, block.where, w.unsqueeze(0), squared[part])

    def close(self) -> None:
        """Bring the sums to their final precision and order in memory."""
        for own in self.sums:
            for name, value in own.items():
                # Two steps: `to` leaves a tensor as it is that has the dtype already.
                own[name] = value.to(self._dtype, memory_format=torch.contiguous_format).contiguous()

    def _add_product(self, k: int, name: str, where: tuple[slice | int, ...], left: Tensor, right: Tensor) -> None:
        """Add left @ right, reshaped like the part of the parameter."""
        into, begun = self._part(k, name, where, right.dtype)
        into.view(len(left), -1).addmm_(left, right, beta=int(begun))  # with beta = 0 what was there is not read

    def _part(self, k: int, name: str, where: tuple[slice | int, ...], dtype: torch.dtype) -> tuple[Tensor, bool]:
        """Return a part of the sum of one parameter, and whether anything was written there before.

        Where a convolution's weight comes by kernel rows, every row lies in one piece of memory. The parts of a
        parameter are the same for every sample, so that sooner or later all of them are written.
        """
        if name not in self.sums[k]:
            shape = self._parameters[name].shape
            empty = self._parameters[name].new_empty
            self.sums[k][name] = (
                empty(shape[2], *shape[:2], shape[3], dtype=dtype).permute(1, 2, 0, 3)
                if where and len(shape) == 4
                else empty(shape, dtype=dtype)
            )
        part = self.sums[k][name][where]
        begun = part.data_ptr() in self._written[k]
        self._written[k].add(part.data_ptr())
        return part, begun


def layer_blocks(
    module: nn.Module, a: Tensor, g: Tensor, names: frozenset[str], workspace: int
) -> Iterator[Block | Outer]:
    """Return the blocks of one layer, in at least float32 (squares of half precision vanish)."""
    form = closed_form(module)
    assert form is not None
    if g.dtype in (torch.float16, torch.bfloat16):
        g = g.float()
        a = a.float() if a.is_floating_point() else a
    return form(module, a, g, names, workspace)


def functional_blocks(
    model: nn.Module, names: list[str], x: Tensor, targets: Tensor, scales: Tensor, workspace: int
) -> Iterator[Block]:
    """Yield per-sample gradients of  scale_i · (−log p_i(target_i))  by torch.func, for any architecture.

    Args:
        model: In eval mode.
        names: Trainable parameters to differentiate.
        x: Inputs (b, ...).
        targets: Labels (b,).
        scales: Factors (b,).
        workspace: Numbers of per-sample gradient held at once.
    """
    # Each once: a weight that bears two names follows its first, and gets the gradient of both uses.
    everything = {name: p.detach() for name, p in model.named_parameters()} | dict(model.named_buffers())
    chosen = {name: everything[name] for name in names}

    def loss(parameters: dict[str, Tensor], sample: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        logits: Tensor = call_with(model, everything | parameters, sample.unsqueeze(0))
        return (target_losses(logits, target.unsqueeze(0)) * scale).sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0, 0))
    step = max(1, workspace // max(1, sum(p.numel() for p in chosen.values())))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule
            found = per_sample(chosen, x[part], targets[part], scales[part])
        for name, gradients in found.items():
            yield Block(
                name, start, gradients.float() if gradients.dtype in (torch.float16, torch.bfloat16) else gradients
            )
