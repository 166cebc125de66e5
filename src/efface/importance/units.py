"""Units: the filters, neurons and single weights whose worth is asked for."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from efface.errors import InputError, nearest

__all__ = ["Granularity", "Unit", "rows_by_layer", "unit_list", "zeroed"]

Granularity = Literal["filter", "neuron", "weight"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Unit:
    """A slice of one layer's weight.

    Attributes:
        layer: The module's name in `model.named_modules()`.
        index: Into the layer's weight: (u,) is an output filter or neuron, and its bias goes with it; a full index is a
            single weight, and the bias stays.
        keep_bias: A filter's or neuron's bias stays, too.
    """

    layer: str
    index: tuple[int, ...]
    keep_bias: bool = False


def unit_list(model: nn.Module, granularity: Granularity = "filter") -> list[Unit]:
    """Return every unit of a model, layer by layer in the order of its modules.

    Args:
        model: Any module.
        granularity: "filter": output filters of convolutions and output neurons of linear layers (the decay paper's
            units: 236 in LeNet-5, 4810 in ResNet-18); "neuron": output neurons of linear layers only; "weight": every
            single weight of both kinds of layers (biases stay).

    Raises:
        InputError: An unknown granularity, or a model without such layers.
    """
    if granularity not in get_args(Granularity):
        raise InputError(f"Unknown granularity {granularity!r}. {nearest(granularity, get_args(Granularity))}")
    kinds = (nn.Linear,) if granularity == "neuron" else (*_CONVOLUTIONS, nn.Linear)
    units: list[Unit] = []
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            shape = module.weight.shape if granularity == "weight" else module.weight.shape[:1]
            units += [Unit(name, index) for index in itertools.product(*map(range, shape))]
    if not units:
        raise InputError(
            f"The model has no layer with {granularity} units. Units live in convolutions and linear layers."
        )
    return units


def rows_by_layer(model: nn.Module, units: Iterable[Unit]) -> dict[str, list[int]]:
    """Return the positions of each layer's units.

    Raises:
        InputError: No such layer, a layer without units, or an index outside its weight.
    """
    layers = dict(model.named_modules())
    rows: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(units):
        _check(unit, layers)
        rows[unit.layer].append(row)
    return rows


def _check(unit: Unit, layers: Mapping[str, nn.Module]) -> None:
    layer = layers.get(unit.layer)
    if not isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
        allowed = [name for name, module in layers.items() if isinstance(module, (*_CONVOLUTIONS, nn.Linear))]
        raise InputError(f"{unit.layer!r} is no convolution or linear layer. {nearest(unit.layer, allowed)}")
    shape = tuple(layer.weight.shape)
    inside = all(0 <= i < size for i, size in zip(unit.index, shape, strict=False))
    if len(unit.index) not in (1, len(shape)) or not inside:
        raise InputError(
            f"Unit {tuple(unit.index)} does not index the weight of {unit.layer!r}, {shape}. "
            "Give (u,) for a filter or neuron, or one index per dimension for a single weight."
        )


@contextmanager
def zeroed(model: nn.Module, units: Iterable[Unit]) -> Iterator[None]:
    """Set the units' weights (and biases of whole filters and neurons, unless kept) to zero, and restore them after.

    Args:
        model: Changed in place for the duration of the context.
        units: What to zero.
    """
    saved: list[tuple[Tensor, tuple[int, ...], Tensor]] = []
    layers = dict(model.named_modules())
    try:
        with torch.no_grad():
            for unit in units:
                module, index = layers[unit.layer], unit.index
                whole = len(index) == 1 and not unit.keep_bias
                parts: Sequence[Tensor | None] = (module.weight, module.bias) if whole else (module.weight,)
                for parameter in parts:
                    if parameter is not None:
                        saved.append((parameter, index, parameter[index].clone()))
                        parameter[index] = 0
        yield
    finally:
        with torch.no_grad():
            for parameter, index, value in reversed(saved):
                parameter[index] = value
