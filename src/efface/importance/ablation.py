"""Exact ablation importance: what accuracy a unit is worth, measured by taking it away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.curvature.samples import MEMORY, Batches, ChunkSize, chunks, require_eval, require_finite, require_labels
from efface.errors import InputError
from efface.importance.effects import Effects
from efface.importance.routes import Routes
from efface.importance.units import Granularity, Unit, unit_layer, unit_list

__all__ = ["Importance", "ablation_importance"]


@dataclass(frozen=True)
class Importance:
    """What every unit is worth on the importance set.

    Attributes:
        units: The units, in the order of the other fields.
        accuracy_drop: Accuracy before minus accuracy without the unit (u,), float64, in [−1, 1]; negative when more
            samples became right than wrong.
        loss_rise: Mean cross-entropy without the unit minus before (u,), float64.
        lost: Samples that were right and became wrong (u,), int64.
        won: Samples that were wrong and became right (u,), int64.
        samples: Size of the importance set.
        accuracy: Accuracy before, a fraction.
        routes: How each layer was computed: "graph" (torch.fx, prefix reuse), "hooks" (prefix reuse, unit by unit)
            or "naive" (a full pass per unit).
    """

    units: tuple[Unit, ...]
    accuracy_drop: Tensor
    loss_rise: Tensor
    lost: Tensor
    won: Tensor
    samples: int
    accuracy: float
    routes: Mapping[str, str]

    def top(self, k: int) -> list[Unit]:
        """Return the k units with the largest accuracy drop, ties by the larger loss rise, then by order.

        Raises:
            InputError: k outside 0..number of units.
        """
        if not 0 <= k <= len(self.units):
            raise InputError(f"top({k}) of {len(self.units)} units: k must be between 0 and {len(self.units)}.")
        drop, rise = self.accuracy_drop.tolist(), self.loss_rise.tolist()
        order = sorted(range(len(self.units)), key=lambda u: (-drop[u], -rise[u], u))
        return [self.units[u] for u in order[:k]]


def ablation_importance(
    model: nn.Module,
    data: Tensor | Batches,
    labels: Tensor | None = None,
    *,
    units: Iterable[Unit] | Granularity = "filter",
    classes: Iterable[int] | None = None,
    memory: int = MEMORY,
    chunk: int | None = None,
) -> Importance:
    """Return the exact importance of units: accuracy before minus accuracy with that unit alone set to zero.

    I_u = acc(w) − acc(w with W[u] = 0, b[u] = 0). BatchNorm that follows is left as it is. The model is left
    bit-identical. The set may be any samples, e.g. the forget class's training data.

    Args:
        model: From inputs to logits (b, K), in eval mode.
        data: Inputs (n, ...), or an iterable of (inputs, labels) batches.
        labels: Labels (n,), when `data` is a tensor.
        units: Units to ablate, or a granularity (see `unit_list`).
        classes: Classes that must occur in the set, e.g. the classes to forget.
        memory: Budget in bytes for one chunk of samples.
        chunk: Fixed number of samples per chunk.

    Raises:
        InputError: Train mode, NaN losses, an empty set, unknown units, a class of `classes` that no sample has.

    Source: A. Kaluri, "Time Inspired Decay Mechanism for Machine Unlearning with Importance Estimation".
    """
    require_eval(model)
    chosen = tuple(unit_list(model, units) if isinstance(units, str) else dict.fromkeys(units))
    if not chosen:
        raise InputError("No units to ablate. Pass at least one, or a granularity.")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(chosen):
        unit_layer(model, unit)
        rows[unit.layer].append(row)
    effects: Effects | None = None
    routes: Routes | None = None
    size, missing = ChunkSize(memory, chunk), set(classes or ())
    if labels is not None:  # known before any work
        _require_classes(missing - set(labels.unique().tolist()))
    for part in chunks(model, data, labels, size):
        with torch.no_grad():
            logits = model(part.x)
        require_labels(part.y, logits.shape[1])
        effects = effects or Effects(len(chosen), logits.device)
        require_finite(effects.start_chunk(logits, part.y), part.positions)
        missing -= set(part.y.unique().tolist())
        if routes is None:
            routes = Routes(model, part.x, part.y, rows, chosen, memory)
            size.observe(1, routes.bytes_per_sample)
        routes.add(part.x, effects)
    assert effects is not None  # `chunks` refuses an empty stream
    assert routes is not None
    _require_classes(missing)
    return Importance(
        chosen,
        ((effects.lost - effects.won).double() / effects.samples).cpu(),
        (effects.loss / effects.samples).cpu(),
        effects.lost.cpu(),
        effects.won.cpu(),
        effects.samples,
        effects.correct / effects.samples,
        routes.names,
    )


def _require_classes(missing: set[int]) -> None:
    if missing:
        raise InputError(
            f"The importance set has no sample of class {sorted(missing)}. Use samples of the classes to forget."
        )
