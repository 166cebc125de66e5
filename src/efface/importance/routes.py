"""Which way each layer's units are ablated: cut in the graph, cut by hooks, or one full pass per unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from efface.importance.effects import Effects
from efface.importance.graph import CannotCutError, Graph
from efface.importance.operations import ablation_operations
from efface.importance.prefix import Prefix
from efface.importance.sweep import LayerSweep
from efface.importance.units import Unit
from efface.importance.zero_and_restore import naive_effects

__all__ = ["Routes"]

_PROBE = 3  # samples on which a route is compared with the naive loop before it is trusted
_CLOSE, _CLOSE_TF32 = (1e-3, 1e-4), (5e-2, 1e-2)  # loss rises of one unit, in float32 and in TensorFloat-32
_CPU_PAIRS = 32 * 2**20  # bytes of one operation's values over the pairs that run together


class Routes:
    """The route of every layer, chosen once and checked against the naive loop on a few samples and one unit.

    Args:
        model: In eval mode.
        x: Some inputs.
        y: Their labels.
        rows: For every layer, the rows of its units in the results.
        units: All units.
        memory: Bytes that pairs may take on an accelerator.

    Attributes:
        names: "graph", "hooks" or "naive" per layer.
        bytes_per_sample: What the cached values of one sample take.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rows: Mapping[str, Sequence[int]],
        units: Sequence[Unit],
        memory: int,
    ) -> None:
        self.model, self.rows, self.units = model, rows, units
        self.names: dict[str, str] = {}
        self.work: dict[str, float] = {}
        self.sweeps: dict[str, LayerSweep] = {}
        self.budget = _CPU_PAIRS if x.device.type == "cpu" else memory // 8
        self.graph: Graph | None = None
        probe, labels = torch.cat([x[:_PROBE]] * _PROBE)[:_PROBE], torch.cat([y[:_PROBE]] * _PROBE)[:_PROBE]
        try:
            self.graph = Graph(model, probe)
        except CannotCutError:
            self.graph = None
        prefix = Prefix(model, probe)
        for layer in rows:
            self.names[layer] = self._choose(layer, probe, labels, prefix)
        held = sum(out.numel() * out.element_size() for _, out in prefix.calls if isinstance(out, Tensor)) // _PROBE
        self.bytes_per_sample = 2 * (self.graph.bytes_per_sample if self.graph is not None else held)

    def add(self, x: Tensor, effects: Effects, done: Callable[[float], None] | None = None) -> None:
        """Add the effects of all units on one chunk, whose baseline `effects` holds.

        Args:
            x: The chunk's inputs.
            effects: Receive the results.
            done: Called after each layer with how many samples' worth of all work that was.
        """
        if done is not None and not self.work:
            operations = ablation_operations(self.model, x, self.units)
            self.work = {layer: operations[layer] + len(rows) for layer, rows in self.rows.items()}
        with torch.no_grad():
            values = self.graph.run(x) if self.graph is not None and self.sweeps else {}
            prefix = Prefix(self.model, x) if "hooks" in self.names.values() else None
            for layer, rows in self.rows.items():
                own = [self.units[row] for row in rows]
                if self.names[layer] == "graph":
                    self.sweeps[layer].add(values, effects, self.budget)
                elif self.names[layer] == "hooks" and prefix is not None:
                    prefix.add(effects, own, rows)
                else:
                    naive_effects(self.model, x, effects, own, rows)
                if done is not None:
                    done(len(x) * self.work[layer] / sum(self.work.values()))

    def _choose(self, layer: str, x: Tensor, y: Tensor, prefix: Prefix) -> str:
        unit = self.units[self.rows[layer][0]]
        with torch.no_grad():
            expected = Effects(1, x.device)
            expected.start_chunk(prefix.logits, y)
            naive_effects(self.model, x, expected, [unit], [0])
            for name in ("graph", "hooks"):
                found = Effects(1, x.device)
                found.start_chunk(prefix.logits, y)
                try:
                    if name == "hooks":
                        prefix.add(found, [unit], [0])
                    elif self.graph is not None:
                        start = self.graph.only_call(layer)
                        LayerSweep(self.graph, start, [unit], [0]).add(self.graph.run(x), found, self.budget)
                        units = [self.units[row] for row in self.rows[layer]]
                        self.sweeps[layer] = LayerSweep(self.graph, start, units, self.rows[layer])
                    else:
                        continue
                except CannotCutError:
                    continue
                rtol, atol = _CLOSE if x.device.type == "cpu" else _CLOSE_TF32
                if torch.allclose(found.loss, expected.loss, rtol=rtol, atol=atol):
                    return name
                self.sweeps.pop(layer, None)
        return "naive"
