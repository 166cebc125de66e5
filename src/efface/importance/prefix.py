"""Prefix reuse without a graph: modules that ran before the ablated layer answer from memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efface.importance.effects import Effects
from efface.importance.graph import CannotCutError
from efface.importance.units import Unit

__all__ = ["Prefix"]


class Prefix:
    """The leaf modules of a model in the order they run, with their outputs on one chunk.

    Needs no trace, so it serves models with control flow in Python; units are ablated one at a time, on all samples.

    Args:
        model: In eval mode.
        x: One chunk of inputs.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        self.calls: list[tuple[nn.Module, Any]] = []
        leaves = [m for m in model.modules() if not any(True for _ in m.children())]
        handles = [m.register_forward_hook(self._remember) for m in leaves]
        try:
            with torch.no_grad():
                self.logits: Tensor = model(x)
        finally:
            for handle in handles:
                handle.remove()

    def _remember(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        # In-place modules downstream would overwrite what is remembered.
        self.calls.append((module, out.clone() if isinstance(out, Tensor) else out))

    def position(self, layer: nn.Module) -> int:
        """Return when a layer runs.

        Raises:
            CannotCutError: It runs never or several times.
        """
        found = [i for i, (module, _) in enumerate(self.calls) if module is layer]
        if len(found) != 1 or "forward" in vars(layer):
            raise CannotCutError(f"The layer runs {len(found)} times in one forward pass.")
        return found[0]

    def add(self, effects: Effects, units: Sequence[Unit], rows: Sequence[int]) -> None:
        """Add the effects of whole filters or neurons of one layer.

        Raises:
            CannotCutError: See `position`; also for single weights and for outputs that are no tensors.
        """
        layer = self.model.get_submodule(units[0].layer)
        position = self.position(layer)
        before = self.calls[position][1]
        if any(len(unit.index) > 1 for unit in units) or not isinstance(before, Tensor):
            raise CannotCutError("Only whole filters and neurons are ablated at the layer's output.")
        samples = torch.arange(len(self.x), device=self.x.device)
        dim = -1 if isinstance(layer, nn.Linear) else 1
        for unit, row in zip(units, rows, strict=True):
            after = before.clone()
            kept = layer.bias if unit.keep_bias else None
            value = float(kept[unit.index[0]]) if isinstance(kept, Tensor) else 0.0
            after.select(dim, unit.index[0]).fill_(value)
            with self._answering(position, after), torch.no_grad():
                effects.add(torch.full_like(samples, row), samples, self.model(self.x))

    @contextmanager
    def _answering(self, position: int, after: Tensor) -> Iterator[None]:
        """Let the modules up to `position` return what they returned before, and that one return `after`."""
        waiting: dict[nn.Module, list[Any]] = {}
        for module, out in [*self.calls[:position], (self.calls[position][0], after)]:
            waiting.setdefault(module, []).append(out)
        changed: list[nn.Module] = []
        try:
            for module, outs in waiting.items():
                if "forward" in vars(module):  # patched by the user: it simply runs again
                    continue
                module.forward = _replay(module, list(outs))
                changed.append(module)
            yield
        finally:
            for module in changed:
                del module.forward


def _replay(module: nn.Module, outs: list[Any]) -> Any:
    own = type(module).forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if outs:
            out = outs.pop(0)
            return out.clone() if isinstance(out, Tensor) else out
        return own(module, *args, **kwargs)

    return forward
