"""The last convolutional map of a network whose features are its global average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from efface.models.mode import evaluating

__all__ = ["Knowledge", "knowledge", "last_map", "watching"]

Knowledge = tuple[Tensor, Tensor]
"""A (N, C, h, w), or the features where there is no such map; and the features (N, C)."""


def last_map(model: nn.Module, head: str, example_input: Tensor) -> str | None:
    """Return the name of the last module whose output, averaged over positions, is what enters the head; None if none.

    Args:
        model: From inputs to logits.
        head: Name of the last linear layer.
        example_input: One or more inputs on the model's device; not all zero.
    """
    found: dict[str, Tensor] = {}
    entered: list[Tensor] = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:  # attention answers with its weights beside
                found[name] = output.detach().clone()

        return hook

    handles = [m.register_forward_hook(keep(name)) for name, m in model.named_modules() if name]
    handles.append(
        model.get_submodule(head).register_forward_pre_hook(lambda _, args: entered.append(args[0].detach()))
    )
    try:
        with evaluating(model), torch.no_grad():
            model(example_input)
    finally:
        for handle in handles:
            handle.remove()
    features = entered[0].flatten(1)
    names = [
        name
        for name, output in found.items()
        if output.shape[2] * output.shape[3] > 1
        and output.shape[1] == features.shape[1]
        and torch.allclose(output.mean((2, 3)), features, rtol=1e-4, atol=1e-6)
    ]
    return names[-1] if names else None


@contextmanager
def watching(model: nn.Module, head: str, layer: str | None) -> Iterator[list[Knowledge]]:
    """Collect the map and the features of every forward pass while the block runs.

    Args:
        model: From inputs to logits.
        head: Name of the last linear layer.
        layer: From `last_map`.
    """
    maps: list[Tensor] = []
    seen: list[Knowledge] = []

    def at_head(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        features = args[0].flatten(1)
        seen.append((maps.pop() if maps else features, features))

    handles = [model.get_submodule(head).register_forward_pre_hook(at_head)]
    if layer is not None:
        handles.append(model.get_submodule(layer).register_forward_hook(lambda m, args, output: maps.append(output)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def knowledge(seen: list[Knowledge], allowed: Tensor, masked_map: bool = True) -> Knowledge:
    """Take the last pass's map and features, with the forbidden channels at 0.

    Args:
        seen: From `watching`; emptied.
        allowed: P (C,).
        masked_map: False leaves the map as it is.
    """
    area, features = seen.pop()
    seen.clear()
    spread = allowed.reshape(1, -1, *[1] * (area.ndim - 2))
    return (area * spread if masked_map else area), features * allowed
