"""How far one ablated channel stays one channel: which operations after a layer keep the others untouched.

Zeroing unit u changes channel u of its layer's output and nothing else. Operations that treat channels separately
(BatchNorm in eval mode, activations, pooling, adding a skip) keep it so, and act on all channels independently: one
pass with *every* channel ablated gives the ablated value of each. Only where channels mix has each unit its own work.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.node import Node

from efface.importance.graph import CannotCutError, Graph

__all__ = ["Channels", "Region"]

_ELEMENTWISE_MODULES = (
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Softsign,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
)

_SPATIAL_MODULES = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.ZeroPad2d,
)

_ELEMENTWISE_FUNCTIONS: frozenset[Any] = frozenset(
    (
        *(F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.mish, F.sigmoid, F.tanh),
        *(F.softplus, F.hardswish, F.dropout, torch.relu, torch.relu_, torch.sigmoid, torch.tanh),
    )
)

_SPATIAL_FUNCTIONS: frozenset[Any] = frozenset(
    (
        *(F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d),
        *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    )
)

_ELEMENTWISE_METHODS = frozenset(("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "contiguous", "clone"))

_ARITHMETIC: frozenset[Any] = frozenset(
    (
        *(operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul),
        *(torch.add, torch.sub, torch.mul),
    )
)

_RESHAPES: frozenset[Any] = frozenset((torch.flatten, torch.reshape, "flatten", "view", "reshape"))


@dataclass(frozen=True)
class Channels:
    """Where the units of a layer sit in a value: unit u has entries u·block to (u+1)·block − 1 of dimension `dim`."""

    dim: int
    block: int = 1

    def split(self, value: Tensor) -> Tensor:
        """Return a view (n, units, block, rest...) of a value."""
        return value.movedim(self.dim, 1).unflatten(1, (-1, self.block))

    def of(self, value: Tensor, samples: Tensor, units: Tensor) -> Tensor:
        """Return unit units[p] of sample samples[p] for every p, (p, block, rest...)."""
        return self.split(value)[samples, units]

    def put(self, value: Tensor, units: Tensor, entries: Tensor) -> None:
        """Overwrite in place unit units[p] of row p with entries shaped as `of` returns them."""
        self.split(value)[torch.arange(len(units), device=units.device), units] = entries

    def changed(self, before: Tensor, after: Tensor) -> Tensor:
        """Return which units differ in which sample, (n, units), bool."""
        return self.split(before != after).flatten(2).any(2)


class Region:
    """What depends on one layer: values where its units stay apart, and values that must be computed per unit.

    Args:
        graph: The model.
        start: The node of the layer.

    Attributes:
        apart: Values in which every unit has its own channels.
        mixed: Operations to run per unit, in order.
        exits: Values of `apart` that `mixed` operations or the model's output read.

    Raises:
        CannotCutError: A value read by the mixed part holds its samples elsewhere than in the first dimension.
    """

    def __init__(self, graph: Graph, start: Node, *, keep_apart: bool = True) -> None:
        self.graph, self.start = graph, start
        layer = graph.module_of(start)
        self.apart: dict[Node, Channels] = {start: Channels(-1 if isinstance(layer, nn.Linear) else 1)}
        self.mixed: list[Node] = []
        depends = {start}
        for node in graph.nodes[graph.nodes.index(start) + 1 :]:
            sources = [a for a in node.all_input_nodes if a in depends]
            if not sources:
                continue
            depends.add(node)
            found = self._kept(node, sources) if keep_apart or node.op == "output" else None
            if found is not None:
                self.apart[node] = found
            else:
                self.mixed.append(node)
        for node in self.mixed:
            for a in node.all_input_nodes:
                if a not in depends and graph.batched[a] is None and isinstance(graph.shapes.get(a), tuple):
                    raise CannotCutError(f"The value {a} has no row per sample.")
        readers = {*self.mixed, graph.output}
        self.exits = [node for node in self.apart if any(user in readers for user in node.users)]

    @property
    def reaches_output(self) -> bool:
        """Whether the units stay apart up to the logits (the last layer)."""
        return self.graph.output in self.apart

    def _kept(self, node: Node, sources: list[Node]) -> Channels | None:
        """Return the units' place in a node's value if the node keeps them apart, else None."""
        if any(a not in self.apart for a in sources) or node not in self.graph.shapes:
            return None
        places = {self.apart[a] for a in sources}
        if len(places) != 1:
            return None
        place = next(iter(places))
        if node.op == "output":
            return place if isinstance(node.args[0], Node) else None
        if node.op == "call_module":
            return self._kept_by_module(node, place)
        if node.target in _ARITHMETIC:
            return place if self._aligned(node, sources[0], place) else None
        if len(sources) != 1 or node.args[:1] != (sources[0],):
            return None
        before, after = self.graph.shapes[sources[0]], self.graph.shapes.get(node, ())
        if node.target in _ELEMENTWISE_FUNCTIONS or node.target in _ELEMENTWISE_METHODS:
            return place
        if node.target in _SPATIAL_FUNCTIONS:
            return place if place.dim == 1 and len(before) == len(after) > 2 else None
        if node.target in _RESHAPES:
            return _flattened(place, before, after)
        if node.target in (torch.mean, "mean") and place.dim == 1 and place.block == 1:
            kept = before[:2] == after[:2] and len(before) > 2  # means over positions only
            return place if kept and _mean_dims(node, len(before)) <= set(range(2, len(before))) else None
        return None

    def _kept_by_module(self, node: Node, place: Channels) -> Channels | None:
        module, source = self.graph.module_of(node), node.all_input_nodes[0]
        before, after = self.graph.shapes[source], self.graph.shapes.get(node, ())
        if len(node.all_input_nodes) != 1:
            return None
        if isinstance(module, _ELEMENTWISE_MODULES):
            return place
        second = place.dim == 1 or len(before) == 2
        if isinstance(module, _SPATIAL_MODULES):
            return place if place.dim == 1 and len(before) > 2 else None
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.PReLU):
            return place if second or (isinstance(module, nn.PReLU) and module.num_parameters == 1) else None
        if isinstance(module, nn.Conv1d | nn.Conv2d) and place == Channels(1):
            depthwise = module.groups == module.in_channels == module.out_channels
            return place if depthwise else None
        if isinstance(module, nn.Flatten):
            return _flattened(place, before, after)
        return None

    def _aligned(self, node: Node, source: Node, place: Channels) -> bool:
        """Whether arithmetic lines the other operand up channel by channel."""
        shape = self.graph.shapes[source]
        if self.graph.shapes.get(node) != shape:
            return False
        if any(isinstance(a, Node) for a in node.kwargs.values()):
            return False
        for a in node.args:
            if isinstance(a, Node):
                other = self.graph.shapes.get(a)
                if other is None:
                    return False
                if other and (len(other) != len(shape) or other[place.dim] not in (1, shape[place.dim])):
                    return False
        return True


def _flattened(place: Channels, before: tuple[int, ...], after: tuple[int, ...]) -> Channels | None:
    if before == after:
        return place
    if len(after) != 2 or after[0] != before[0]:
        return None
    if place.dim == 1:
        positions = 1
        for size in before[2:]:
            positions *= size
        return Channels(-1, place.block * positions)
    return place if len(before) == 2 else None


def _mean_dims(node: Node, ndim: int) -> set[int]:
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if isinstance(dims, int):
        dims = (dims,)
    if not isinstance(dims, tuple | list) or not all(isinstance(d, int) for d in dims):
        return {0}
    return {int(d) % ndim for d in dims if isinstance(d, int)}
