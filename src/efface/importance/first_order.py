"""First-order scores: what every unit seems worth, from one forward and one backward pass over the samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.fx.node import Node

from efface.curvature.chunks import MEMORY, Batches, ChunkSize, chunks, require_eval, require_finite, require_labels
from efface.errors import InputError, nearest
from efface.importance.graph import CannotCutError, Graph
from efface.importance.sweep import LayerSweep
from efface.importance.units import Granularity, Unit, unit_layer, unit_list

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

    Args:
        model: In eval mode; must be traceable by torch.fx.
        data: Inputs (n, ...), or an iterable of (inputs, labels) batches.
        labels: Labels (n,), when `data` is a tensor.
        units: Units to score, or a granularity.
        score: Which score.
        memory: Budget in bytes for one chunk of samples.
        chunk: Fixed number of samples per chunk.

    Raises:
        InputError: As `ablation_importance`; also an unknown score, or a model that torch.fx cannot cut.
    """
    if score not in get_args(Score):
        raise InputError(f"Unknown score {score!r}. {nearest(str(score), get_args(Score))}")
    require_eval(model)
    chosen = unit_list(model, units) if isinstance(units, str) else list(dict.fromkeys(units))
    rows: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(chosen):
        unit_layer(model, unit)
        rows[unit.layer].append(row)
    totals, samples = torch.zeros(len(chosen), dtype=torch.float64), 0
    graph: Graph | None = None
    sweeps: list[LayerSweep] = []
    size = ChunkSize(memory, chunk)
    for part in chunks(model, data, labels, size):
        if graph is None:
            try:
                graph = Graph(model, torch.cat([part.x[:_PROBE]] * _PROBE)[:_PROBE])
                sweeps = [
                    LayerSweep(graph, graph.only_call(layer), [chosen[row] for row in own], own)
                    for layer, own in rows.items()
                ]
            except CannotCutError as error:
                raise InputError(f"No first-order scores: {error} Use ablation_importance, which is exact.") from error
            size.observe(1, 3 * graph.bytes_per_sample)
        found, margins = _changes(graph, sweeps, part.x, part.y, part.positions, len(chosen), score)
        totals += _summed(score, found, margins).cpu()
        samples += len(part)
    return totals.abs() if score == "taylor" else totals / samples


def _changes(
    graph: Graph, sweeps: list[LayerSweep], x: Tensor, y: Tensor, positions: Tensor, units: int, score: Score
) -> tuple[Tensor, Tensor]:
    """Return d (b, units) and the margins (b,)."""
    with torch.enable_grad():
        values = graph.run(x.clone().requires_grad_() if x.is_floating_point() else x)
        logits: Tensor = values[graph.output]
        require_labels(y, logits.shape[1])
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        require_finite(losses, positions)
        own = logits.gather(1, y.unsqueeze(1)).squeeze(1)
        margins = own - logits.scatter(1, y.unsqueeze(1), float("-inf")).amax(1)
        read = list({node for sweep in sweeps for node in _first_exits(sweep)})
        target = margins if score == "flips" else losses
        gradients = dict(
            zip(
                read, torch.autograd.grad(target.sum(), [values[node] for node in read], allow_unused=True), strict=True
            )
        )
    d = torch.zeros(len(x), units, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        before: dict[Node, Any] = {
            node: value.detach() if isinstance(value, Tensor) else value for node, value in values.items()
        }
        for sweep in sweeps:
            for rows, channels, ablated in sweep.ablations(before):
                for node in _first_exits(sweep):
                    gradient = gradients[node]
                    if gradient is not None:
                        place = sweep.region.apart[node]
                        product = place.split(ablated[node] - before[node]) * place.split(gradient)
                        d[:, rows] += product.flatten(2).sum(2)[:, channels].double()
    return d, margins.detach().double()


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
