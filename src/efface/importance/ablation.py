"""Exact ablation importance: what accuracy a unit is worth, measured by taking it away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.curvature.chunks import MEMORY, Batches, ChunkSize, chunks, require_eval, require_finite, require_labels
from efface.errors import InputError
from efface.importance.effects import Effects
from efface.importance.routes import Routes
from efface.importance.units import Granularity, Unit, rows_by_layer, unit_list
from efface.running.ranks import Ranks, reduced

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
        population: Size of the set that `samples` were drawn from, or None when all of it was used.
    """

    units: tuple[Unit, ...]
    accuracy_drop: Tensor
    loss_rise: Tensor
    lost: Tensor
    won: Tensor
    samples: int
    accuracy: float
    routes: Mapping[str, str]
    population: int | None = None

    def half_width(self, confidence: float = 0.95, *, simultaneous: bool = True) -> Tensor:
        """Return how far each accuracy drop may be from that on the whole set, (u,); 0 where nothing was left out.

        The smaller of the Hoeffding-Serfling and the empirical Bernstein-Serfling bound for draws without replacement
        (Bardenet and Maillard, Bernoulli 2015, theorems 2.4 and 4.3), with change per sample in [−1, 1]. They always
        hold, at the price of being wide: about 0.12 for one unit at 500 samples.

        Args:
            confidence: Probability that the true drops lie within the bound.
            simultaneous: For all units together (union bound) rather than for each by itself.

        Raises:
            InputError: A confidence outside (0, 1).
        """
        if not 0 < confidence < 1:
            raise InputError(f"confidence={confidence}: must lie between 0 and 1, e.g. 0.95.")
        if self.population is None or self.population == self.samples:
            return torch.zeros_like(self.accuracy_drop)
        n, total = self.samples, self.population
        # Two bounds, two sides, and every unit share the risk.
        risk = (1 - confidence) / (4 * (len(self.units) if simultaneous else 1))
        rho = 1 - (n - 1) / total if n <= total / 2 else (1 - n / total) * (1 + 1 / n)
        spread = ((self.lost + self.won).double() / n - self.accuracy_drop**2).clamp(min=0).sqrt()
        hoeffding = 2 * math.sqrt(rho * math.log(1 / risk) / (2 * n))
        log = math.log(5 / risk)
        bernstein = spread * math.sqrt(2 * rho * log / n) + (7 / 3 + 3 / math.sqrt(2)) * 2 * log / n
        return bernstein.clamp(max=hoeffding)

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
    subsample: int | None = None,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
    chunk: int | None = None,
    fabric: Ranks | None = None,
    done: Callable[[float], None] | None = None,
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
        subsample: Use this many samples, drawn without replacement (tensors only); `half_width` bounds the error.
        generator: Where they are drawn from, on the CPU; required with `subsample`.
        memory: Budget in bytes for one chunk of samples.
        chunk: Fixed number of samples per chunk.
        fabric: With several processes: every rank passes the same samples, takes its share, and gets the full result.
        done: Called as the work goes on with how many samples' worth of it was just finished; together all samples.

    Raises:
        InputError: Train mode, NaN losses, an empty set, unknown units, a class of `classes` that no sample has.

    Source: A. Kaluri, "Time Inspired Decay Mechanism for Machine Unlearning with Importance Estimation".
    """
    require_eval(model)
    chosen = tuple(unit_list(model, units) if isinstance(units, str) else dict.fromkeys(units))
    if not chosen:
        raise InputError("No units to ablate. Pass at least one, or a granularity.")
    rows = rows_by_layer(model, chosen)
    population = None
    if subsample is not None:
        data, labels, population = _drawn(data, labels, subsample, generator)
    effects: Effects | None = None
    routes: Routes | None = None
    classes = tuple(classes or ())
    size, missing = ChunkSize(memory, chunk), set(classes)
    if labels is not None:  # known before any work
        _require_classes(missing - set(labels.unique().tolist()))
    rank, world = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
    for part in chunks(model, data, labels, size, rank=rank, world=world):
        with torch.no_grad():
            logits = model(part.x)
        require_labels(part.y, logits.shape[1])
        effects = effects or Effects(len(chosen), logits.device)
        require_finite(effects.start_chunk(logits, part.y), part.positions)
        missing -= set(part.y.unique().tolist())
        if routes is None:
            routes = Routes(model, part.x, part.y, rows, chosen, memory)
            size.observe(1, routes.bytes_per_sample)
        routes.add(part.x, effects, done)
    assert effects is not None  # `chunks` refuses an empty stream
    assert routes is not None
    absent = torch.tensor([c in missing for c in classes], device=effects.lost.device)
    _require_classes(
        {c for c, lacking in zip(classes, reduced(absent.long(), fabric).tolist(), strict=True) if lacking == world}
    )
    effects.share(fabric)
    return Importance(
        chosen,
        ((effects.lost - effects.won).double() / effects.samples).cpu(),
        (effects.loss / effects.samples).cpu(),
        effects.lost.cpu(),
        effects.won.cpu(),
        effects.samples,
        effects.correct / effects.samples,
        routes.names,
        population,
    )


def _drawn(
    data: Tensor | Batches, labels: Tensor | None, subsample: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, int]:
    if not isinstance(data, Tensor) or labels is None or generator is None:
        raise InputError("subsample needs inputs and labels as tensors, and a torch.Generator. Pass all three.")
    if not 1 <= subsample <= len(data):
        raise InputError(f"subsample={subsample} of {len(data)} samples: must be between 1 and {len(data)}.")
    index = torch.randperm(len(data), generator=generator)[:subsample].sort().values
    return data[index.to(data.device)], labels[index.to(labels.device)], len(data)


def _require_classes(missing: set[int]) -> None:
    if missing:
        raise InputError(
            f"The importance set has no sample of class {sorted(missing)}. Use samples of the classes to forget."
        )
