"""What enters each top-level block of a network, in one pass over a part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.models.mode import evaluating
from efface.models.predictions import pass_size

__all__ = ["block_features", "block_names"]

SIDE = 4
"""Maps are averaged down to this many rows and columns: a probe of every position would cost without telling more."""


def block_names(model: nn.Module) -> list[str]:
    """Return the names of a network's top-level blocks: its children with matrices or kernels, containers opened.

    `nn.Sequential` is opened, and so is a single child that holds everything else. Layers without a matrix
    (activations, pooling, normalisation) belong to the block after which they come.

    Args:
        model: Any module.
    """

    def weighty(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            if any(p.ndim >= 2 for p in child.parameters()):
                path = f"{prefix}{name}"
                yield from weighty(child, f"{path}.") if isinstance(child, nn.Sequential) else [(path, child)]

    found = list(weighty(model, ""))
    while len(found) == 1 and (inner := list(weighty(found[0][1], f"{found[0][0]}."))):
        found = inner
    return [name for name, _ in found]


def block_features(model: nn.Module, part: Part) -> dict[str, Tensor]:
    """Return what every block hands to the next one: the inputs of all blocks but the first, in the order of the calls.

    Maps (channels, height, width) are averaged down to at most 4 x 4, sequences (length, width) over their length.

    Args:
        model: Any module from inputs to logits, on the device where it is used.
        part: What it is asked.

    Returns:
        By block, float32 of shape (len(part), features), on the CPU.

    Raises:
        InputError: There are not two blocks, or one is not called just once for a batch.
    """
    names = block_names(model)
    if len(names) < 2:
        raise InputError(
            f"the blocks of this {type(model).__name__} cannot be found: a probe at every block needs at least two "
            f"layers with weights, and found {len(names)} among its children"
        )
    first = next(model.parameters())
    calls: list[tuple[str, Tensor]] = []
    found: dict[str, list[Tensor]] = {}
    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name in names:

            def note(_: nn.Module, args: tuple, name: str = name) -> None:
                calls.append((name, args[0].detach() if args and isinstance(args[0], Tensor) else torch.empty(0)))

            hooks.callback(model.get_submodule(name).register_forward_pre_hook(note).remove)
        for x, _ in part.batches(Epoch(pass_size(first.device), device=first.device)):
            calls.clear()
            model(x)
            called = [name for name, _ in calls]
            if sorted(called) != sorted(names):
                raise InputError(
                    f"the blocks of this {type(model).__name__} cannot be probed: {', '.join(names)} should each be "
                    f"called once for a batch; called were {', '.join(called) or 'none'}"
                )
            for name, entered in calls[1:]:
                found.setdefault(name, []).append(_flat(entered, len(x)).float().cpu())
    return {name: torch.cat(each) for name, each in found.items()}


def _flat(x: Tensor, n: int) -> Tensor:
    if x.ndim == 0 or len(x) != n:
        raise InputError(f"a block was handed a tensor of shape {tuple(x.shape)} for {n} records")
    if x.ndim == 4 and math.prod(x.shape[2:]) > SIDE * SIDE:
        x = F.adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))
    return (x.mean(1) if x.ndim == 3 else x).reshape(n, -1)
