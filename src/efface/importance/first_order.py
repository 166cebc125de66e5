"""First-order scores: what every unit seems worth, from one forward and one backward pass over the samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.fx.node import Node

from efface.curvature.chunks import (
    MEMORY,
    Batches,
    Chunk,
    ChunkSize,
    chunks,
    require_eval,
    require_finite,
    require_labels,
)
from efface.errors import InputError, nearest
from efface.importance.graph import CannotCutError, Graph
from efface.importance.sweep import LayerSweep
from efface.importance.units import Granularity, Unit, rows_by_layer, unit_list

__all__ = ["Score", "screening_scores"]

Score = Literal["flips", "taylor", "fisher"]

_PROBE = 3

_SMOOTH = 1e-3  # weight of the mean margin change, which orders the units that flip equally many samples


def screening_scores(
    model: nn.Module,
    data: Tensor | Batches,
    labels: Tensor | None = None,
    *,
    units: Iterable[Unit] | Granularity = "filter",
    score: Score = "flips",
    memory: int = MEMORY,
    chunk: int | None = None,
) -> Tensor:
    """Return a cheap score per unit, (u,), float64: the larger, the more worth ablating exactly.

    Ablating unit u changes the values v that other channels read by Δv_iu, known exactly (an ablated channel after its
    own BatchNorm, activation and pooling). To first order this changes quantity Q_i of sample i by
    d_iu = Σ over positions of Δv_iu ∂Q_i/∂v. With m_i the margin (correct logit minus the largest other) and L_i the
    loss:

    - ``flips``: predicted accuracy drop, mean_i [m_i > 0] − [m_i + d_iu > 0], Q = m;
    - ``taylor``: |Σ_i d_iu|, Q = L; at a layer without activation this is |Σ activation × gradient|
      (Molchanov et al., arXiv 1611.06440);
    - ``fisher``: mean_i d_iu², Q = L (Theis et al., arXiv 1801.05787).

    In a model that torch.fx cannot cut, whole units are taken to leave their layer's output at zero, with no look at
    what BatchNorm, activation and pooling make of that.

    Args:
        model: In eval mode.
        data: Inputs (n, ...), or an iterable of (inputs, labels) batches.
        labels: Labels (n,), when `data` is a tensor.
        units: Units to score, or a granularity.
        score: Which score.
        memory: Budget in bytes for one chunk of samples.
        chunk: Fixed number of samples per chunk.

    Raises:
        InputError: As `ablation_importance`; also an unknown score, or single weights of a model that torch.fx cannot
            cut.
    """
    if score not in get_args(Score):
        raise InputError(f"Unknown score {score!r}. {nearest(str(score), get_args(Score))}")
    require_eval(model)
    chosen = unit_list(model, units) if isinstance(units, str) else list(dict.fromkeys(units))
    rows = rows_by_layer(model, chosen)
    totals, samples = torch.zeros(len(chosen), dtype=torch.float64), 0
    asked: _Cut | _Whole | None = None
    size = ChunkSize(memory, chunk)
    for part in chunks(model, data, labels, size):
        if asked is None:
            asked = _asked(model, part.x, chosen, rows)
            size.observe(1, asked.bytes_per_sample)
        found, margins = asked.changes(part, score)
        totals += _summed(score, found, margins).cpu()
        samples += len(part)
    return totals.abs() if score == "taylor" else totals / samples


def _asked(model: nn.Module, x: Tensor, units: Sequence[Unit], rows: Mapping[str, Sequence[int]]) -> _Cut | _Whole:
    try:
        return _Cut(model, x, units, rows)
    except CannotCutError as error:
        if any(len(unit.index) > 1 for unit in units):
            raise InputError(f"No first-order scores: {error} Use ablation_importance, which is exact.") from error
        return _Whole(model, x, units, rows)


class _Cut:
    """A model as a graph: what an ablated unit makes of the values that other channels read is known exactly."""

    def __init__(self, model: nn.Module, x: Tensor, units: Sequence[Unit], rows: Mapping[str, Sequence[int]]) -> None:
        self.graph = graph = Graph(model, torch.cat([x[:_PROBE]] * _PROBE)[:_PROBE])
        self.sweeps = [
            LayerSweep(graph, graph.only_call(layer), [units[row] for row in own], own) for layer, own in rows.items()
        ]
        self.units = len(units)
        self.bytes_per_sample = 3 * graph.bytes_per_sample

    def changes(self, part: Chunk, score: Score) -> tuple[Tensor, Tensor]:
        """Return d (b, units) and the margins (b,)."""
        with torch.enable_grad():
            values = self.graph.run(_leaf(part.x))
            margins, target = _margins_and_target(values[self.graph.output], part, score)
            read = list({node for sweep in self.sweeps for node in _first_exits(sweep)})
            found = torch.autograd.grad(target.sum(), [values[node] for node in read], allow_unused=True)
            gradients = dict(zip(read, found, strict=True))
        d = torch.zeros(len(part), self.units, dtype=torch.float64, device=part.x.device)
        with torch.no_grad():
            before: dict[Node, Any] = {
                node: value.detach() if isinstance(value, Tensor) else value for node, value in values.items()
            }
            for sweep in self.sweeps:
                for rows, channels, ablated in sweep.ablations(before):
                    for node in _first_exits(sweep):
                        gradient = gradients[node]
                        if gradient is not None:
                            place = sweep.region.apart[node]
                            product = place.split(ablated[node] - before[node]) * place.split(gradient)
                            d[:, rows] += product.flatten(2).sum(2)[:, channels].double()
        return d, margins


class _Whole:
    """A model as it is: outputs of layers are recorded while it runs, and a unit's part of them goes to zero."""

    def __init__(self, model: nn.Module, x: Tensor, units: Sequence[Unit], rows: Mapping[str, Sequence[int]]) -> None:
        self.model, self.units, self.rows = model, units, rows
        held = sum(out.numel() * out.element_size() for outs in self._run(x[:1])[1].values() for out in outs)
        self.bytes_per_sample = 6 * held

    def _run(self, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Return logits, and the outputs of every layer, one per call."""
        outputs: dict[str, list[Tensor]] = {layer: [] for layer in self.rows}
        handles = [
            self.model.get_submodule(layer).register_forward_hook(lambda m, args, out, own=own: own.append(out))
            for layer, own in outputs.items()
        ]
        try:
            with torch.enable_grad():
                return self.model(_leaf(x)), outputs
        finally:
            for handle in handles:
                handle.remove()

    def changes(self, part: Chunk, score: Score) -> tuple[Tensor, Tensor]:
        """Return d (b, units) and the margins (b,)."""
        logits, outputs = self._run(part.x)
        margins, target = _margins_and_target(logits, part, score)
        flat = [(layer, out) for layer, outs in outputs.items() for out in outs]
        gradients = torch.autograd.grad(target.sum(), [out for _, out in flat], allow_unused=True)
        d = torch.zeros(len(part), len(self.units), dtype=torch.float64, device=part.x.device)
        with torch.no_grad():
            for (layer, out), gradient in zip(flat, gradients, strict=True):
                if gradient is None:
                    continue
                if len(out) != len(part):
                    raise InputError(
                        f"No first-order scores: the output of {layer!r} has {len(out)} rows for {len(part)} samples. "
                        "Use ablation_importance, which is exact."
                    )
                module = self.model.get_submodule(layer)
                axis = -1 if isinstance(module, nn.Linear) else 1
                lost, steepness = (
                    v.movedim(axis, -1).reshape(len(out), -1, out.shape[axis]) for v in (-out * gradient, gradient)
                )
                own = [self.units[row] for row in self.rows[layer]]
                channels = torch.tensor([unit.index[0] for unit in own], device=out.device)
                left = torch.zeros(len(own), device=out.device, dtype=out.dtype)
                if isinstance(module.bias, Tensor):
                    left = module.bias[channels] * torch.tensor([unit.keep_bias for unit in own], device=out.device)
                d[:, self.rows[layer]] += (lost.sum(1)[:, channels] + left * steepness.sum(1)[:, channels]).double()
        return d, margins


def _leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_() if x.is_floating_point() else x


def _margins_and_target(logits: Tensor, part: Chunk, score: Score) -> tuple[Tensor, Tensor]:
    """Return every sample's margin, detached in float64, and what is to be differentiated."""
    y = part.y
    require_labels(y, logits.shape[1])
    losses = nn.functional.cross_entropy(logits, y, reduction="none")
    require_finite(losses, part.positions)
    own = logits.gather(1, y.unsqueeze(1)).squeeze(1)
    margins = own - logits.scatter(1, y.unsqueeze(1), float("-inf")).amax(1)
    return margins.detach().double(), margins if score == "flips" else losses


def _first_exits(sweep: LayerSweep) -> list[Node]:
    """Return where the region is read first: the gradient there already contains what its later exits pass on."""
    exits, found = set(sweep.region.exits), []
    reached: set[Node] = set()
    for node in sweep.region.apart:
        if any(a in reached for a in node.all_input_nodes):
            reached.add(node)
        elif node in exits:
            reached.add(node)
            found.append(node)
    return found


def _summed(score: Score, d: Tensor, margins: Tensor) -> Tensor:
    if score == "taylor":
        return d.sum(0)
    if score == "fisher":
        return d.square().sum(0)
    m = margins.unsqueeze(1)
    flips = (m > 0).double() - (m + d > 0).double()
    return (flips - _SMOOTH * d.clamp(-1, 1)).sum(0)
