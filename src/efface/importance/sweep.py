"""Ablating all units of one layer: shared work once, then only the (unit, sample) pairs that change anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import Node

from efface.curvature.layer_gradients import conv_patches
from efface.importance.channels import Channels, Region
from efface.importance.effects import Effects
from efface.importance.graph import CannotCutError, Graph
from efface.importance.units import Unit

__all__ = ["LayerSweep"]

_TIE = 1e-5
"""Relative gap of the two largest logits (float32) below which a pair is recomputed without shortcuts."""


@dataclass(frozen=True)
class _Pairs:
    """Which unit is ablated in which sample: rows of the result, channels, samples; all (p,), sorted by channel."""

    rows: Tensor
    channels: Tensor
    samples: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: slice | Tensor) -> _Pairs:
        return _Pairs(self.rows[index], self.channels[index], self.samples[index])


class LayerSweep:
    """The ablation of units of one layer, for chunk after chunk.

    Args:
        graph: The traced model.
        start: The node of the layer; the layer runs once.
        units: Units of this layer.
        rows: Their rows in the results.

    Raises:
        CannotCutError: See `Region`.
    """

    def __init__(self, graph: Graph, start: Node, units: Sequence[Unit], rows: Sequence[int]) -> None:
        self.graph, self.start = graph, start
        layer = graph.module_of(start)
        assert layer is not None
        self.layer: nn.Module = layer
        if isinstance(layer, nn.Conv3d) and any(len(unit.index) > 1 for unit in units):
            raise CannotCutError("Single weights of 3-d convolutions have no closed form here.")
        self.region = Region(graph, start)
        self.plain = Region(graph, start, keep_apart=False)
        self._sweeps: dict[tuple[tuple[int, ...], bool], dict[int, int]] = {}
        for unit, row in zip(units, rows, strict=True):
            self._sweeps.setdefault((unit.index[1:], unit.keep_bias), {})[unit.index[0]] = row

    def add(self, values: Mapping[Node, Any], effects: Effects, budget: int) -> None:
        """Add the effects of the units on the chunk whose operations' values are given.

        Args:
            values: Every operation's value on the chunk.
            effects: Holds the chunk's baseline; receives the results.
            budget: Bytes for the pairs that run together.
        """
        for rows, channels, ablated in self.ablations(values):
            pairs = self._changed(rows, channels, ablated, values)
            self._add_pairs(self.region, pairs, ablated, values, effects, budget, settle=True)

    def ablations(self, values: Mapping[Node, Any]) -> Iterator[tuple[Tensor, Tensor, dict[Node, Tensor]]]:
        """Yield (rows, channels, values of the region) with those units ablated, each in its own channel, at once.

        Whole filters and neurons take one such pass; single weights one for every position inside a filter.
        """
        device = values[self.start].device
        for (position, keep_bias), rows_of in self._sweeps.items():
            channels = sorted(rows_of)
            rows = torch.tensor([rows_of[c] for c in channels], dtype=torch.int64, device=device)
            yield (
                rows,
                torch.tensor(channels, dtype=torch.int64, device=device),
                self._ablated(position, keep_bias, values),
            )

    def _ablated(self, position: tuple[int, ...], keep_bias: bool, values: Mapping[Node, Any]) -> dict[Node, Tensor]:
        """Return the values of the region with every unit ablated, each in its own channel."""
        out: Tensor = values[self.start]
        first = self._silent(keep_bias, out) if not position else out - self._share(position, values)
        ablated: dict[Node, Any] = {self.start: first}
        for node in list(self.region.apart)[1:]:
            ablated[node] = self.graph.apply(node, lambda a: ablated[a] if a in ablated else values[a])
        return ablated

    def _silent(self, keep_bias: bool, out: Tensor) -> Tensor:
        """Return the layer's output with every filter or neuron at zero, or at its bias."""
        silent, bias = torch.zeros_like(out), self.layer.bias
        if keep_bias and isinstance(bias, Tensor):
            dim = self.region.apart[self.start].dim % out.ndim
            silent += bias.detach().view(-1, *[1] * (out.ndim - 1 - dim))
        return silent

    def _share(self, position: tuple[int, ...], values: Mapping[Node, Any]) -> Tensor:
        """Return what the single weights W[:, position] add to the layer's output, shaped like it."""
        layer, out = self.layer, values[self.start]
        a = values[self.start.all_input_nodes[0]]
        assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)  # `__init__` refuses others
        flat = 0
        for index, size in zip(position, layer.weight.shape[1:], strict=True):
            flat = flat * size + index
        w = layer.weight.flatten(1)[:, flat]
        if isinstance(layer, nn.Linear):
            return a[..., position[0], None] * w
        seen = conv_patches(layer, a)[:, :, flat]  # (n, groups, positions)
        seen = seen.repeat_interleave(layer.out_channels // layer.groups, dim=1)
        return (seen * w.view(1, -1, 1)).view(out.shape)

    def _changed(
        self, rows: Tensor, channels: Tensor, ablated: Mapping[Node, Tensor], values: Mapping[Node, Any]
    ) -> _Pairs:
        """Return the pairs whose ablation changes anything that is read further on; others keep their prediction."""
        out = values[self.start]
        changed = torch.zeros(
            len(out), out.shape[self.region.apart[self.start].dim], dtype=torch.bool, device=out.device
        )
        for node in self.region.exits:
            changed |= self.region.apart[node].changed(values[node], ablated[node])
        which, samples = changed[:, channels].T.nonzero(as_tuple=True)
        return _Pairs(rows[which], channels[which], samples)

    def _add_pairs(
        self,
        region: Region,
        pairs: _Pairs,
        ablated: Mapping[Node, Tensor],
        values: Mapping[Node, Any],
        effects: Effects,
        budget: int,
        *,
        settle: bool,
    ) -> None:
        step = max(1, budget // max(1, self._bytes_per_pair(region)))
        for first in range(0, len(pairs), step):
            some = pairs.take(slice(first, first + step))
            logits = _PairRun(self.graph, region, some, ablated, values).logits()
            if settle:
                top = logits.topk(2, dim=1).values if logits.shape[1] > 1 else logits
                scale = _TIE if logits.dtype != torch.float64 else _TIE * 1e-8
                tied = (top[:, 0] - top[:, -1]) <= scale * (1 + top.abs().amax(1))
                if bool(tied.any()):
                    self._add_pairs(self.plain, some.take(tied), ablated, values, effects, budget, settle=False)
                    some, logits = some.take(~tied), logits[~tied]
            effects.add(some.rows, some.samples, logits)

    def _bytes_per_pair(self, region: Region) -> int:
        sizes = [torch.Size(self.graph.shapes[node][1:]).numel() for node in region.mixed if node in self.graph.shapes]
        return 4 * 3 * max(sizes, default=1)  # an operation's input, its output and a skip


class _PairRun:
    """The mixed part of the graph on pairs: row p is sample samples[p] with unit channels[p] ablated."""

    def __init__(
        self,
        graph: Graph,
        region: Region,
        pairs: _Pairs,
        ablated: Mapping[Node, Tensor],
        values: Mapping[Node, Any],
    ) -> None:
        self.graph, self.region, self.pairs, self.ablated, self.values = graph, region, pairs, ablated, values
        self.mixed: dict[Node, Any] = {}
        self.sizes: dict[Node, Any] = {}

    def logits(self) -> Tensor:
        """Return the logits (p, K)."""
        if self.region.reaches_output:
            source = self.graph.output.all_input_nodes[0]
            return self._joined(source)
        last: dict[Node, Node] = {}
        for node in self.region.mixed:
            for a in node.all_input_nodes:
                last[a] = node
        for node in self.region.mixed:
            shortcut = self._from_change(node)
            if shortcut is None:
                own = frozenset(a for a in self.graph.writers.get(node, ()) if self._fresh(a, last[a] is node))
                shortcut = self.graph.apply(node, self._value, own=own)
            self.mixed[node] = shortcut
            for a in node.all_input_nodes:
                if last[a] is node:
                    self.mixed.pop(a, None)
        found: Tensor = self.mixed[self.graph.output]
        return found

    def _value(self, node: Node) -> Any:
        if node in self.mixed:
            return self.mixed[node]
        if node in self.region.apart:
            return self._joined(node)
        if self.graph.batched[node]:
            return _rows(self.values[node], self.pairs.samples)
        if self.graph.batched[node] is None:
            return self._size(node)
        return self.values[node]

    def _fresh(self, node: Node, last: bool) -> bool:
        """Whether an operation may overwrite this argument: a copy made for it, or a value that nothing else reads."""
        if node not in self.mixed:
            return node in self.region.apart or bool(self.graph.batched[node])
        storage = self.mixed[node].untyped_storage().data_ptr()
        others = (v for a, v in self.mixed.items() if a is not node and isinstance(v, Tensor))
        return last and all(v.untyped_storage().data_ptr() != storage for v in others)

    def _joined(self, node: Node) -> Tensor:
        """Return the pairs' values where all but one unit is as before."""
        place = self.region.apart[node]
        value = _rows(self.values[node], self.pairs.samples)
        place.put(value, self.pairs.channels, place.of(self.ablated[node], self.pairs.samples, self.pairs.channels))
        return value

    def _size(self, node: Node) -> Any:
        """Recompute a number that depends on the number of samples (a batch size), for the number of pairs."""
        if node not in self.sizes:
            self.sizes[node] = self.graph.apply(node, self._stand_in)
        return self.sizes[node]

    def _stand_in(self, node: Node) -> Any:
        value = self.values[node]
        if isinstance(value, Tensor):
            return torch.empty(len(self.pairs), *value.shape[1:], device="meta", dtype=value.dtype)
        return self._size(node) if self.graph.batched[node] is None else value

    def _from_change(self, node: Node) -> Tensor | None:
        """Return a linear operation's value from the change of one channel, or None if it takes the whole input.

        W(a + Δ) = W a + W[:, u] Δ_u: one input channel instead of all of them.
        """
        layer, sources = self.graph.module_of(node), node.all_input_nodes
        if (
            len(sources) != 1
            or sources[0] not in self.region.apart
            or type(layer) not in (nn.Conv1d, nn.Conv2d, nn.Linear)
        ):
            return None
        place, samples, channels = self.region.apart[sources[0]], self.pairs.samples, self.pairs.channels
        before, after = self.values[sources[0]], self.ablated[sources[0]]
        if isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1 and place == Channels(1):
            change = place.of(after, samples, channels) - place.of(before, samples, channels)
            patches = conv_patches(layer, change).squeeze(1)  # (p, kernel, positions)
            kernels = layer.weight.flatten(2).transpose(0, 1)[channels]  # (p, out, kernel)
            out = _rows(self.values[node], samples)
            last = out.flatten(2).transpose(1, 2)  # positions first: a view in the channels-last layout
            found = torch.baddbmm(last, patches.transpose(1, 2), kernels.transpose(1, 2))
            return found.transpose(1, 2).unflatten(2, out.shape[2:])
        if isinstance(layer, nn.Linear) and place.dim in (-1, before.ndim - 1) and before.ndim == 2:
            out = _rows(self.values[node], samples)
            columns = layer.weight.unflatten(1, (-1, place.block)).transpose(0, 1)  # (units, out, block)
            change = place.of(after, samples, channels) - place.of(before, samples, channels)
            if place.block == 1:
                return out.addcmul_(change, columns[channels].squeeze(2))
            for channel, part in _runs(channels):  # one unit's pairs stand together
                out[part].addmm_(change[part], columns[channel].T)
            return out
        return None


def _rows(value: Tensor, samples: Tensor) -> Tensor:
    """Return a copy of some samples' values, (p, ...), in the memory layout of `value`."""
    if value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last):
        return value.permute(0, 2, 3, 1).index_select(0, samples).permute(0, 3, 1, 2)
    return value.index_select(0, samples)


def _runs(channels: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield each channel of a sorted vector with the stretch it fills."""
    found, counts = channels.unique_consecutive(return_counts=True)
    start = 0
    for channel, count in zip(found.tolist(), counts.tolist(), strict=True):
        yield channel, slice(start, start + count)
        start += count
