"""Screening: cheap scores for all units, exact ablation for the best candidates only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.curvature.chunks import MEMORY, Batches
from efface.errors import InputError
from efface.importance.ablation import Importance, ablation_importance
from efface.importance.first_order import Score, screening_scores
from efface.importance.units import Granularity, Unit, unit_list

__all__ = ["Screening", "overlap", "screened_importance"]


@dataclass(frozen=True)
class Screening:
    """The candidates' exact importance, and the scores that chose them.

    Attributes:
        units: All units.
        scores: Their scores (u,), see `screening_scores`.
        importance: Exact importance of the candidates.
        k: How many units were asked for.
    """

    units: tuple[Unit, ...]
    scores: Tensor
    importance: Importance
    k: int

    def top(self) -> list[Unit]:
        """Return the k candidates with the largest exact accuracy drop."""
        return self.importance.top(self.k)


def screened_importance(
    model: nn.Module,
    data: Tensor | Batches,
    labels: Tensor | None = None,
    *,
    top: float | int = 0.05,
    candidates: float = 2.0,
    units: Iterable[Unit] | Granularity = "filter",
    score: Score = "flips",
    classes: Iterable[int] | None = None,
    memory: int = MEMORY,
    chunk: int | None = None,
    done: Callable[[float], None] | None = None,
) -> Screening:
    """Return the exact importance of the units that a first-order score finds most promising.

    The k best units of the result are the k best of all as far as the score let them in; `overlap` measures that
    against the exact ranking.

    Args:
        model: In eval mode.
        data: Inputs (n, ...), or an iterable of (inputs, labels) batches, which is kept in memory.
        labels: Labels (n,), when `data` is a tensor.
        top: How many units are wanted: a fraction of all in (0, 1), or a number.
        candidates: Ablate this many times as many exactly, at least 1.
        units: Units to rank, or a granularity.
        score: See `screening_scores`.
        classes: Classes that must occur in the set.
        memory: Budget in bytes for one chunk of samples.
        chunk: Fixed number of samples per chunk.
        done: Called while candidates are ablated, as by `ablation_importance`.

    Raises:
        InputError: As `screening_scores` and `ablation_importance`; `top` or `candidates` out of range.
    """
    chosen = tuple(unit_list(model, units) if isinstance(units, str) else dict.fromkeys(units))
    k = max(1, round(top * len(chosen))) if isinstance(top, float) else top
    if not 1 <= k <= len(chosen) or candidates < 1:
        raise InputError(
            f"top={top} of {len(chosen)} units, candidates={candidates}: top must be a fraction in (0, 1) or a number "
            f"up to {len(chosen)}, candidates at least 1."
        )
    data = data if isinstance(data, Tensor) else list(data)
    scores = screening_scores(model, data, labels, units=chosen, score=score, memory=memory, chunk=chunk)
    best = torch.argsort(scores, descending=True, stable=True)[: round(candidates * k)].tolist()
    candidate = [chosen[row] for row in sorted(best)]
    importance = ablation_importance(
        model, data, labels, units=candidate, classes=classes, memory=memory, chunk=chunk, done=done
    )
    return Screening(chosen, scores, importance, k)


def overlap(found: Sequence[Unit], exact: Importance) -> float:
    """Return the fraction of `found` that belongs to the exact top as many.

    Accuracy drops are multiples of 1/n, so ties at the border are common: a unit belongs when its exact drop is at
    least the k-th largest, k = len(found).

    Args:
        found: Units, e.g. `Screening.top()`.
        exact: Exact importance of all units.

    Raises:
        InputError: Nothing found, or a unit whose exact importance is not given.
    """
    drop = dict(zip(exact.units, exact.accuracy_drop.tolist(), strict=True))
    unknown = [unit for unit in found if unit not in drop]
    if not found or unknown:
        raise InputError(f"No exact importance of {unknown[:1] or 'no units'}: pass units that `exact` ranks.")
    border = sorted(drop.values(), reverse=True)[len(found) - 1]
    return sum(drop[unit] >= border for unit in found) / len(found)
