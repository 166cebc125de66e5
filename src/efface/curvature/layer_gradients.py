"""Per-sample gradients of one layer's parameters from its input and the gradient at its output.

With `a` the input, `g` the gradient of the *sum* of the per-sample losses at the output (so that g[b] belongs to sample
b alone), every form yields blocks of per-sample gradients; squaring and adding them up is the caller's business
(`squares.py`). A weight used at several positions (convolutions, tokens) is summed over them *before* the square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FORMS", "Block", "Blocks", "Names", "Outer", "closed_form", "conv_patches", "conv_positions"]


@dataclass(frozen=True)
class Block:
    """Gradients (b, *shape) of one parameter for samples start, ..., start + b - 1, or of its part `parameter[where]`.

    `gradients` may be overwritten when the next block is asked for.
    """

    name: str
    start: int
    gradients: Tensor
    where: tuple[slice | int, ...] = ()


@dataclass(frozen=True)
class Outer:
    """Per-sample gradients of rank one, g[b] aᵀ[b], never formed: g (b, O), a (b, I)."""

    name: str
    g: Tensor
    a: Tensor


Names = frozenset[str]

Blocks = Iterator[Block | Outer]

Form = Callable[[nn.Module, Tensor, Tensor, Names, int], Blocks]


def _pieces(samples: int, values: int, workspace: int) -> Iterator[slice]:
    """Cut `samples` so that a piece of blocks of `values` numbers stays within `workspace`, but not below one."""
    step = max(1, min(samples, workspace // max(1, values)))
    for start in range(0, samples, step):
        yield slice(start, min(samples, start + step))


def _linear(module: nn.Module, a: Tensor, g: Tensor, names: Names, workspace: int) -> Blocks:
    assert isinstance(module, nn.Linear)
    if a.ndim == 2:
        if "weight" in names:
            yield Outer("weight", g, a)
        if "bias" in names:
            yield Block("bias", 0, g)
        return
    a, g = a.flatten(1, -2), g.flatten(1, -2)
    if "weight" in names:
        for part in _pieces(len(a), module.weight.numel(), workspace):
            yield Block("weight", part.start, torch.bmm(g[part].transpose(1, 2), a[part]))
    if "bias" in names:
        yield Block("bias", 0, g.sum(1))


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Return the padding as F.pad takes it: last dimension first, both ends."""
    pads: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            total = module.dilation[axis] * (module.kernel_size[axis] - 1) if module.padding == "same" else 0
            pads += [total // 2, total - total // 2]
        else:
            pads += [module.padding[axis]] * 2
    return pads


@dataclass(frozen=True)
class _Window:
    """A convolution's input (b, in_channels, height, width) with its padding, and its window; Conv1d has height one."""

    a: Tensor
    kernel: tuple[int, int]
    dilation: tuple[int, int]
    stride: tuple[int, int]

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (
            (self.a.shape[2 + i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1 for i in (0, 1)
        )
        return height, width


def _window(module: nn.Conv1d | nn.Conv2d, a: Tensor) -> _Window:
    pads = _padding(module)
    if any(pads):
        a = F.pad(a, pads, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)
    if isinstance(module, nn.Conv1d):
        a = a.unsqueeze(2)
    kernel, dilation, stride = (
        (v[0], v[1]) if len(v) == 2 else (1, v[0]) for v in (module.kernel_size, module.dilation, module.stride)
    )
    return _Window(a, kernel, dilation, stride)


def conv_patches(module: nn.Conv1d | nn.Conv2d, a: Tensor, at: Tensor | None = None) -> Tensor:
    """Return what every kernel sees: (b, groups, in_channels/groups * kernel, positions).

    Handles stride, dilation, groups, string paddings and every padding mode. Conv1d is Conv2d of height one.

    Args:
        module: The convolution.
        a: Its input.
        at: (b, k): only these positions of each sample, k instead of all, in the order of a flattened output.
    """
    window = _window(module, a)
    a, dilation, stride, places = window.a, window.dilation, window.stride, window.places
    if window.kernel == (1, 1) and at is None:
        return a[:, :, :: stride[0], :: stride[1]].flatten(2).unflatten(1, (module.groups, -1))
    # A strided view and one copy: two to ten times faster on a CPU than F.unfold.
    a = a.contiguous()
    n, c, h, w = a.stride()
    view = a.as_strided(
        (*a.shape[:2], *window.kernel, *places),
        (n, c, h * dilation[0], w * dilation[1], h * stride[0], w * stride[1]),
        a.storage_offset(),
    )
    if at is None:
        patches = view.reshape(len(a), -1, places[0] * places[1])
    else:
        rows, columns = at // places[1], at % places[1]
        patches = view[torch.arange(len(a), device=a.device)[:, None], :, :, :, rows, columns].flatten(2).mT
    return patches.unflatten(1, (module.groups, -1))


def conv_positions(module: nn.Conv1d | nn.Conv2d, a: Tensor) -> int:
    """Return how many positions of an input every kernel sees."""
    height, width = _window(module, a[:1]).places
    return height * width


def _seen_by_rows(module: nn.Conv1d | nn.Conv2d, a: Tensor) -> list[Tensor]:
    """Return what every kernel row sees: (b * groups, in_channels/groups * kernel width, positions) for each.

    All are views of one copy of the input that is unfolded along its width alone. Kernel row k sees, for output row h,
    the input row  stride h + dilation k;  among the input rows that leave the same remainder by the stride, these are
    consecutive: those of another kernel row are the same rows, shifted.
    """
    window = _window(module, a)
    a, (height, width) = window.a, window.places
    step, reach = window.stride[0], window.dilation[0]
    if window.kernel[0] == 1:
        a, step = a[:, :, ::step], 1
    each = height + (window.kernel[0] - 1) * reach // step
    if (lacking := each * step - a.shape[2]) > 0:
        a = F.pad(a, (0, 0, 0, lacking))
    a = a.contiguous()
    n, c, h, w = a.stride()
    unfolded = a.as_strided(
        (*a.shape[:2], window.kernel[1], step, each, width),
        (n, c, w * window.dilation[1], h, h * step, w * window.stride[1]),
        a.storage_offset(),
    ).reshape(len(a) * module.groups, -1, step * each * width)
    starts = [(k * reach % step * each + k * reach // step) * width for k in range(window.kernel[0])]
    return [unfolded[:, :, start : start + height * width] for start in starts]


def _conv(module: nn.Module, a: Tensor, g: Tensor, names: Names, workspace: int) -> Blocks:
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    g = g.flatten(2)
    if "bias" in names:
        yield Block("bias", 0, g.sum(2))
    if "weight" not in names:
        return
    across = module.in_channels // module.groups * module.kernel_size[-1]  # what one output channel has in a kernel row
    size, unfolded = module.out_channels * across, module.kernel_size[-1] * a[0].numel() // module.stride[-1]
    # Of a wide layer a few output channels at a time, sample after sample, so that their sum stays in the cache.
    wide = module.groups == 1 and size > workspace
    out: Tensor | None = None
    for part in _pieces(len(a), unfolded if wide else max(size, unfolded), workspace):
        seen = _seen_by_rows(module, a[part])
        grouped = g[part].unflatten(1, (module.groups, -1)).flatten(0, 1)
        once = 1 if wide else len(grouped)  # matrix products at a time
        for channels in _pieces(module.out_channels, across, workspace) if wide else (slice(None),):
            for k, row in enumerate(seen):
                where = (channels,) if isinstance(module, nn.Conv1d) else (channels, slice(None), k)
                for at in range(0, len(grouped), once):
                    left = grouped[at : at + once, channels]
                    shape = (once, left.shape[1], across)
                    if out is None or out.shape != shape:  # fresh memory every time costs as much as the product
                        out = g.new_empty(shape)
                    torch.bmm(left, row[at : at + once].transpose(1, 2), out=out)
                    found = out.view(once // module.groups, -1, *module.weight.shape[1:2], module.kernel_size[-1])
                    yield Block("weight", part.start + at // module.groups, found, where)


def _affine(names: Names, g: Tensor, normalised: Tensor, positions: list[int]) -> Blocks:
    """Scale and shift of a normalisation: sums of g·x̂ and g over the positions that share them."""
    if "weight" in names:
        product = g * normalised
        yield Block("weight", 0, product.sum(positions) if positions else product)
    if "bias" in names:
        yield Block("bias", 0, g.sum(positions) if positions else g)


def _batch_norm(module: nn.Module, a: Tensor, g: Tensor, names: Names, workspace: int) -> Blocks:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    assert module.running_mean is not None
    assert module.running_var is not None
    if "weight" in names:
        centred = (a - module.running_mean.view(1, -1, *(1,) * (a.ndim - 2))).reshape(a.shape[0] * a.shape[1], -1, 1)
        product = torch.bmm(g.reshape(len(centred), 1, -1), centred).view(a.shape[:2])
        yield Block("weight", 0, product * torch.rsqrt(module.running_var + module.eps))
    if "bias" in names:
        yield Block("bias", 0, g.flatten(2).sum(2) if g.ndim > 2 else g)


def _layer_norm(module: nn.Module, a: Tensor, g: Tensor, names: Names, workspace: int) -> Blocks:
    assert isinstance(module, nn.LayerNorm)
    normalised = F.layer_norm(a, module.normalized_shape, eps=module.eps)
    yield from _affine(names, g, normalised, list(range(1, a.ndim - len(module.normalized_shape))))


def _group_norm(module: nn.Module, a: Tensor, g: Tensor, names: Names, workspace: int) -> Blocks:
    assert isinstance(module, nn.GroupNorm)
    normalised = F.group_norm(a, module.num_groups, eps=module.eps)
    yield from _affine(names, g, normalised, list(range(2, a.ndim)))


def _embedding(module: nn.Module, a: Tensor, g: Tensor, names: Names, workspace: int) -> Blocks:
    assert isinstance(module, nn.Embedding)
    ids, rows = a.flatten(1), g.flatten(1, -2) if a.ndim > 1 else g.unsqueeze(1)
    if module.padding_idx is not None:
        rows = rows * (ids != module.padding_idx).unsqueeze(-1)
    for part in _pieces(len(ids), module.weight.numel(), workspace):
        gradients = g.new_zeros(part.stop - part.start, *module.weight.shape)
        index = ids[part].unsqueeze(-1).expand_as(rows[part])
        yield Block("weight", part.start, gradients.scatter_add_(1, index, rows[part]))


FORMS: dict[type[nn.Module], Form] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
}


def closed_form(module: nn.Module) -> Form | None:
    """Return the layer's form, or None when torch.func has to do it.

    Exact types only (a subclass may compute something else), with exactly the parameters the layer was built with
    (parametrisations and weight_norm rename them).
    """
    form = FORMS.get(type(module))
    if form is None or not set(module._parameters) <= {"weight", "bias"} or not isinstance(module.weight, nn.Parameter):
        return None
    if "forward" in vars(module):  # an instance whose forward was replaced
        return None
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq or module.sparse):
        return None
    return form
