"""Importances that are computed once per trained model and kept: later requests subtract their own share.

A per-sample Fisher is a plain sum, so over the kept data it is the sum over D minus the sum over D_f: after the first
pass a request costs one pass over what it forgets. Sums are kept in float64, because they will be subtracted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from efface.curvature.fisher import Estimator, FisherDiagonal
from efface.errors import InputError

__all__ = ["fisher_key", "load_fisher", "recall", "remember", "save_fisher"]

_PREFIX = "fisher"


def fisher_key(
    weights: str, data: str, indices: Iterable[int] | np.ndarray, estimator: Estimator, *, note: str = ""
) -> str:
    """Return the name under which importances are kept: 32 hexadecimal digits.

    Args:
        weights: SHA-256 of the model's weights and buffers, see `efface.artifact.weights_sha256`.
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
    for part in (weights, data, hashlib.sha256(order.tobytes()).hexdigest(), estimator, note):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:32]


def remember(fisher: FisherDiagonal, key: str) -> dict[str, Tensor]:
    """Return the sums as tensors for an artifact's memory, named fisher/key/..., float64.

    Args:
        fisher: With one sum (weights=None).
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


def save_fisher(path: str | Path, fisher: FisherDiagonal, key: str) -> None:
    """Write one cached sum to a safetensors file, through a temporary one beside it."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    safetensors.torch.save_file(remember(fisher, key), temporary)
    temporary.replace(target)


def load_fisher(path: str | Path, key: str, estimator: Estimator, model: nn.Module) -> FisherDiagonal | None:
    """Read a file written by `save_fisher`; None if it is absent or holds another key."""
    target = Path(path)
    if not target.exists():
        return None
    return recall(safetensors.torch.load_file(target), key, estimator, model)
