"""Fisher importances of forget data against retained data, and sums kept for later requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from efface.curvature.chunks import Batches
from efface.curvature.fisher import Estimator, FisherDiagonal, fisher_diagonal
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.data.split import Split
from efface.errors import InputError
from efface.running.run import Run

__all__ = [
    "Denominator",
    "FisherContrast",
    "Order",
    "batches",
    "contrast",
    "fisher_key",
    "recall",
    "recall_full",
    "reference_part",
    "remember",
    "remember_full",
    "require_reachable",
]

_PREFIX = "fisher"


def fisher_key(
    weights_sha256: str, data: str, indices: Iterable[int] | np.ndarray, estimator: Estimator, *, note: str = ""
) -> str:
    """Return the name under which importances are kept: 32 hexadecimal digits.

    Args:
        weights_sha256: SHA-256 of the model's weights and buffers, see `efface.artifact.weights_sha256`.
        data: Fingerprint of the data set, which covers its transform.
        indices: Which samples were summed, in any order.
        estimator: Which Fisher.
        note: Whatever else the sums depend on (draws and seed for `mc`).

    Raises:
        InputError: `batch_squared`, which is no sum over samples and must not be reused for others.
    """
    if estimator == "batch_squared":
        raise InputError("batch_squared depends on batches and order, so it is not cached. Compute it anew.")
    order = np.sort(np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), dtype="<i8"))
    digest = hashlib.sha256()
    for part in (weights_sha256, data, hashlib.sha256(order.tobytes()).hexdigest(), estimator, note):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:32]


def remember(fisher: FisherDiagonal, key: str) -> dict[str, Tensor]:
    """Return the sums as tensors for an artifact's memory, named fisher/key/..., float64.

    Args:
        fisher: With one sum (sample_weights=None).
        key: See `fisher_key`.

    Raises:
        InputError: Several sums, sums below float64, or `batch_squared`.
    """
    if len(fisher.sums) != 1 or fisher.estimator == "batch_squared":
        raise InputError(f"{len(fisher.sums)} sums of {fisher.estimator!r}: only one sum over samples can be kept.")
    if any(value.dtype != torch.float64 for value in fisher.sum().values()):
        raise InputError("The sums are not float64 and cannot be subtracted. Compute them with the default dtype.")
    kept = {f"{_PREFIX}/{key}/sum/{name}": value.cpu() for name, value in fisher.sum().items()}
    counts = [fisher.totals[0], float(fisher.samples), fisher.saturated]
    kept[f"{_PREFIX}/{key}/counts"] = torch.tensor(counts, dtype=torch.float64)
    return kept


def recall(memory: Mapping[str, Tensor], key: str, estimator: Estimator, model: nn.Module) -> FisherDiagonal | None:
    """Return what `remember` kept under a key, on the model's device, or None.

    Args:
        memory: An artifact's tensors by name.
        key: See `fisher_key`; it guarantees that model, data and estimator are the same.
        estimator: Which Fisher the key was made for.
        model: Gives names and devices.
    """
    counts = memory.get(f"{_PREFIX}/{key}/counts")
    if counts is None:
        return None
    prefix = f"{_PREFIX}/{key}/sum/"
    devices = {name: p.device for name, p in model.named_parameters()}
    sums = {
        name.removeprefix(prefix): value.to(devices[name.removeprefix(prefix)])
        for name, value in memory.items()
        if name.startswith(prefix)
    }
    total, samples, saturated = counts.tolist()
    return FisherDiagonal((sums,), (total,), int(samples), estimator, saturated)


Denominator = Literal["retain", "full"]

Order = Literal["published", "shuffled", "class_sorted"]

_ADDITIVE = ("empirical", "true")

_CACHE = "cache/"

_READ = 1024  # samples per batch handed to estimators whose result does not depend on it


@dataclass(frozen=True)
class FisherContrast:
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
) -> FisherContrast:
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
            read = batches(part, batch_size, order, split, run, f"{name}/{purpose}")
        else:
            read = part.batches(Epoch(_READ, device=run.device))
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
        return FisherContrast(forget.mean(), measure(reference_part(split, denominator), "reference").mean())
    if full is not None and set(full.sum()) == set(forget.sum()):
        kept = full - forget
    else:
        kept = measure(split.retain, "retain")
    return FisherContrast(forget.mean(), (kept + forget if denominator == "full" else kept).mean())


def remember_full(
    model: nn.Module, split: Split, run: Run, estimator: Estimator, weights_sha256: str
) -> dict[str, Tensor]:
    """Return importances over all data for an artifact's memory, under names that begin with `cache/`.

    Nothing is computed for estimators whose sums cannot be subtracted: `batch_squared`, and `mc` with its own draws.

    Args:
        model: In eval mode, on the run's device.
        split: The data; everything that the model was trained on is summed.
        run: Device.
        estimator: Which Fisher.
        weights_sha256: SHA-256 of the model's weights.
    """
    if estimator not in _ADDITIVE:
        return {}
    found = fisher_diagonal(model, split.train.batches(Epoch(_READ, device=run.device)), estimator=estimator)
    kept = remember(found, fisher_key(weights_sha256, split.data.fingerprint, split.train.indices, estimator))
    return {_CACHE + name: value for name, value in kept.items()}


def recall_full(
    memory: Mapping[str, Tensor], model: nn.Module, split: Split, estimator: Estimator, weights_sha256: str
) -> FisherDiagonal | None:
    """Return what `remember_full` kept for the same weights, data and estimator, or None.

    Args:
        memory: An artifact's tensors.
        model: Gives names and devices.
        split: The data under a request.
        estimator: Which Fisher.
        weights_sha256: SHA-256 of the model's weights.
    """
    if estimator not in _ADDITIVE or not any(name.startswith(_CACHE) for name in memory):
        return None
    kept = {name.removeprefix(_CACHE): value for name, value in memory.items() if name.startswith(_CACHE)}
    key = fisher_key(weights_sha256, split.data.fingerprint, split.train.indices, estimator)
    return recall(kept, key, estimator, model)


def reference_part(split: Split, denominator: Denominator) -> Part:
    """Return the samples that the reference importances are a mean over."""
    return split.train if denominator == "full" else split.retain


def batches(part: Part, batch_size: int, order: Order, split: Split, run: Run, purpose: str) -> Batches:
    """Return a part's batches for measures that depend on them.

    Args:
        part: The samples.
        batch_size: Samples per batch.
        order: `shuffled`; `class_sorted`, class after class; or `published`, that of the published scripts: for whole
            classes the kept ones class after class and then the forgotten ones, for items shuffled.
        split: Says what is forgotten.
        run: Device and randomness.
        purpose: Names the random order.
    """
    if order == "shuffled" or (order == "published" and not split.forget_classes):
        generator = run.generator(f"{purpose}/order")
        return part.batches(Epoch(batch_size, device=run.device, generator=generator))
    labels = part.labels.numpy()
    last = np.isin(labels, split.forget_classes) & (order == "published")
    return part.take(np.lexsort((labels, last))).batches(Epoch(batch_size, device=run.device))


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
