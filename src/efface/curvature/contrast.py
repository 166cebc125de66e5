"""Importances under a request: of what is to be forgotten, against a reference set that holds the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor, nn

from efface.curvature.cache import fisher_key, recall, remember
from efface.curvature.fisher import Estimator, FisherDiagonal, fisher_diagonal
from efface.curvature.samples import Batches
from efface.data.part import Part
from efface.data.split import Split
from efface.errors import InputError
from efface.run import Run

__all__ = [
    "Contrast",
    "Denominator",
    "Order",
    "batches",
    "contrast",
    "order_for",
    "recall_full",
    "reference_part",
    "remember_full",
    "require_reachable",
]

Denominator = Literal["retain", "full"]
Order = Literal["published", "shuffled", "class_sorted"]

_ADDITIVE = ("empirical", "true")
_CACHE = "cache/"
_READ = 1024  # samples per batch handed to estimators whose result does not depend on it


@dataclass(frozen=True)
class Contrast:
    """Two diagonals by parameter name, each a mean over its set.

    Attributes:
        forget: I_F, over the data to forget.
        reference: I, over the kept data or over all of it.
    """

    forget: dict[str, Tensor]
    reference: dict[str, Tensor]


def contrast(
    model: nn.Module,
    split: Split,
    run: Run,
    name: str,
    estimator: Estimator,
    denominator: Denominator,
    batch_size: int,
    order: Order,
    full: FisherDiagonal | None = None,
) -> Contrast:
    """Return mean squared gradients over the data to forget and over the reference.

    The sums of per-sample estimators add up, so D is D_f plus D_r; `batch_squared` reads the reference on its own.

    Args:
        model: In eval mode, on the run's device.
        split: The data under the request.
        run: Device and randomness (`mc` draws labels, `batch_squared` shuffles).
        name: The method's, for notes and errors.
        estimator: See `fisher_diagonal`.
        denominator: What the reference is.
        batch_size: For `batch_squared`.
        order: For `batch_squared`.
        full: The sum over all data where it is known, see `recall_full`; then only the data to forget is read.

    Raises:
        InputError: Every sample to forget is saturated, so that I_F is 0 for every weight.
    """

    def measure(part: Part, purpose: str) -> FisherDiagonal:
        generator = run.generator(f"{name}/{purpose}")
        if estimator == "batch_squared":
            read = batches(part, batch_size, order_for(order, split), run, f"{name}/{purpose}")
        else:
            read = part.batches(_READ, device=run.device)
        return fisher_diagonal(model, read, estimator=estimator, generator=generator)

    forget = measure(split.forget, "forget")
    if forget.saturated == 1:
        raise InputError(
            f"{name}: all {len(split.forget)} samples to forget have a predicted probability of exactly 1, so their "
            "gradients vanish and no weight can be told apart; use lfssd, which does not read the loss, or fine-tune"
        )
    if forget.saturated > 0.5:
        run.note(f"{name}: {forget.saturated:.0%} of the samples to forget have probability exactly 1 and do not count")
    if estimator == "batch_squared":
        return Contrast(forget.mean(), measure(reference_part(split, denominator), "reference").mean())
    if full is not None and set(full.sum()) == set(forget.sum()):
        kept = full - forget
    else:
        kept = measure(split.retain, "retain")
    return Contrast(forget.mean(), (kept + forget if denominator == "full" else kept).mean())


def remember_full(model: nn.Module, split: Split, run: Run, estimator: Estimator, weights: str) -> dict[str, Tensor]:
    """Return importances over all data for an artifact's memory, under names that begin with `cache/`.

    Nothing is computed for estimators whose sums cannot be subtracted: `batch_squared`, and `mc` with its own draws.

    Args:
        model: In eval mode, on the run's device.
        split: The data; everything that the model was trained on is summed.
        run: Device.
        estimator: Which Fisher.
        weights: SHA-256 of the model's weights.
    """
    if estimator not in _ADDITIVE:
        return {}
    found = fisher_diagonal(model, split.train.batches(_READ, device=run.device), estimator=estimator)
    kept = remember(found, fisher_key(weights, split.data.fingerprint, split.train.indices, estimator))
    return {_CACHE + name: value for name, value in kept.items()}


def recall_full(
    memory: Mapping[str, Tensor], model: nn.Module, split: Split, estimator: Estimator, weights: str
) -> FisherDiagonal | None:
    """Return what `remember_full` kept for the same weights, data and estimator, or None.

    Args:
        memory: An artifact's tensors.
        model: Gives names and devices.
        split: The data under a request.
        estimator: Which Fisher.
        weights: SHA-256 of the model's weights.
    """
    if estimator not in _ADDITIVE or not any(name.startswith(_CACHE) for name in memory):
        return None
    kept = {name.removeprefix(_CACHE): value for name, value in memory.items() if name.startswith(_CACHE)}
    key = fisher_key(weights, split.data.fingerprint, split.train.indices, estimator)
    return recall(kept, key, estimator, model)


def reference_part(split: Split, denominator: Denominator) -> Part:
    """Return the samples that the reference importances are a mean over."""
    return split.train if denominator == "full" else split.retain


def order_for(order: Order, split: Split) -> Literal["shuffled", "class_sorted"]:
    """Return the order itself; `published` is that of the published scripts: class after class for whole classes."""
    if order == "published":
        return "class_sorted" if split.forget_classes else "shuffled"
    return order


def batches(part: Part, batch_size: int, order: Literal["shuffled", "class_sorted"], run: Run, purpose: str) -> Batches:
    """Return a part's batches for measures that depend on them.

    Args:
        part: The samples.
        batch_size: Samples per batch.
        order: By the run's generator, or class after class.
        run: Device and randomness.
        purpose: Names the random order.
    """
    if order == "class_sorted":
        part = part.take(np.argsort(part.labels.numpy(), kind="stable"))
    generator = run.generator(f"{purpose}/order") if order == "shuffled" else None
    return part.batches(batch_size, device=run.device, generator=generator)


def require_reachable(name: str, alpha: float, split: Split) -> None:
    """Raise if a threshold on I_F/I_D lies at or above its largest possible value, the ratio cap.

    I_D = r I_F + (1-r) I_R >= r I_F with r = n_f/n, so I_F/I_D <= 1/r for every weight.

    Raises:
        InputError: alpha >= 1/r: nothing could be selected.
    """
    cap = len(split.train) / len(split.forget)
    if alpha >= cap:
        raise InputError(
            f"{name}: alpha = {alpha:g} over all data can select nothing: {len(split.forget)} of {len(split.train)} "
            f"samples are to be forgotten, so no weight's ratio of importances can exceed {cap:.4g}. Use an alpha "
            f"below {cap:.4g}, denominator='retain' (which has no such limit), or assd, which finds its own threshold"
        )
