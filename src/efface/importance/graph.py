"""A model as a list of operations (torch.fx) that can be run in part, on other samples than those it was cached for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Node, map_arg
from torch.fx.proxy import TraceError

from efface.models.networks.average_pooling import AveragePooling

__all__ = ["CannotCutError", "Graph"]

_TRACING_ERRORS = (
    TraceError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    NameError,
    AssertionError,
)


class CannotCutError(Exception):
    """The model cannot be cut here; another route has to be taken."""


class Graph:
    """The traced operations of a model, checked against the model itself on a few samples.

    Args:
        model: In eval mode; its modules and parameters are shared, not copied.
        probe: At least two samples (b, ...).

    Raises:
        CannotCutError: The model cannot be traced, or the trace computes something else.
    """

    def __init__(self, model: nn.Module, probe: Tensor) -> None:
        try:
            traced = _Tracer().trace(model)
        except _TRACING_ERRORS as error:
            raise CannotCutError(f"torch.fx cannot trace the model: {error}") from error
        self.modules = dict(model.named_modules())
        self.model = model
        self.output = next(node for node in traced.nodes if node.op == "output")
        self.nodes = _needed(traced, self.output)
        self.writers: dict[Node, tuple[Node, ...]] = {}
        with torch.no_grad():
            values = self._probed(probe)
            fewer = self._probed(probe[1:])
            expected = model(probe)
        found = values[self.output]
        # Accelerators may choose another kernel for the same operation: equal up to rounding is enough.
        if not isinstance(found, Tensor) or found.shape != expected.shape or not torch.allclose(found, expected, 1e-3):
            raise CannotCutError("The traced operations do not reproduce the model's output.")
        self.shapes = {node: tuple(v.shape) for node, v in values.items() if isinstance(v, Tensor)}
        self.batched = {node: _batch_first(values[node], fewer[node]) for node in self.nodes}
        self.bytes_per_sample = sum(
            v.numel() * v.element_size() // len(probe) for node, v in values.items() if self.batched[node]
        )

    def run(self, x: Tensor) -> dict[Node, Any]:
        """Return every operation's value on a chunk of inputs."""
        if x.ndim == 4 and x.device.type == "cpu":
            # Narrow convolutions of large batches run up to four times faster in this layout, which later layers keep.
            x = x.contiguous(memory_format=torch.channels_last)
        values: dict[Node, Any] = {}
        for node in self.nodes:
            values[node] = self.apply(node, values.__getitem__, x=x)
        return values

    def apply(
        self, node: Node, value: Callable[[Node], Any], *, x: Tensor | None = None, own: frozenset[Node] = frozenset()
    ) -> Any:
        """Compute one operation.

        Args:
            node: Which one.
            value: Gives the values of its arguments.
            x: The model's input, for the placeholder.
            own: Arguments the operation may overwrite if it works in place; others are copied first.
        """
        if node.op == "placeholder":
            return x if not node.args and x is not None else (node.args[0] if node.args else None)
        if node.op == "get_attr":
            return _attribute(self.model, str(node.target))
        copied = {a: value(a).clone() for a in self.writers.get(node, ()) if a not in own}
        args, kwargs = map_arg((node.args, node.kwargs), lambda a: copied[a] if a in copied else value(a))
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "output":
            return args[0]
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def module_of(self, node: Node) -> nn.Module | None:
        """Return the module that a node calls, if it calls one."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def only_call(self, layer: str) -> Node:
        """Return the one node that runs a layer.

        Raises:
            CannotCutError: It runs never or several times, or its parameters are also read outside it.
        """
        module = self.modules[layer]
        own = {id(p) for p in module.parameters()}
        for node in self.nodes:
            if node.op == "get_attr" and id(_attribute(self.model, str(node.target))) in own:
                raise CannotCutError(f"The parameters of {layer!r} are read outside the layer.")
        sharers = [
            m for m in self.modules.values() if m is not module and own & {id(p) for p in m._parameters.values()}
        ]
        if sharers:
            raise CannotCutError(f"The parameters of {layer!r} are shared with another layer.")
        calls = [node for node in self.nodes if self.module_of(node) is module]
        if len(calls) != 1:
            raise CannotCutError(f"The layer {layer!r} runs {len(calls)} times in one forward pass.")
        return calls[0]

    def _probed(self, x: Tensor) -> dict[Node, Any]:
        """Run on copies of all arguments and note which operations write into them."""
        values: dict[Node, Any] = {}
        for node in self.nodes:
            copies = {
                a: (values[a].clone() if isinstance(values[a], Tensor) else copy.copy(values[a]))
                for a in node.all_input_nodes
            }
            versions = {a: v._version for a, v in copies.items() if isinstance(v, Tensor)}
            values[node] = self.apply(node, copies.__getitem__, x=x)
            written = tuple(a for a, version in versions.items() if copies[a]._version != version)
            if written:
                self.writers[node] = written
        return values


class _Tracer(fx.Tracer):
    """Takes a layer of Efface's own for one operation, as those of torch.nn are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, AveragePooling) or super().is_leaf_module(m, module_qualified_name)


def _needed(traced: fx.Graph, output: Node) -> list[Node]:
    """Return the nodes that the output depends on, in order (and the placeholders)."""
    needed, stack = set(), [output]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack += node.all_input_nodes
    return [node for node in traced.nodes if node in needed or node.op == "placeholder"]


def _attribute(model: nn.Module, path: str) -> Any:
    found: Any = model
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _batch_first(more: Any, fewer: Any) -> bool | None:
    """Return whether a value holds one row per sample; None when it depends on their number otherwise."""
    if isinstance(more, Tensor):
        if more.shape == fewer.shape:
            return False
        same = more.ndim == fewer.ndim and more.shape[1:] == fewer.shape[1:] and len(more) == len(fewer) + 1
        return True if same else None
    return False if _plain(more) == _plain(fewer) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_plain(v) for v in value)
    return None if isinstance(value, Tensor) else value
