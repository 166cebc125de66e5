"""What was found out about one model, kept on disk for the next audit: probes, relearning, the deeper looks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from efface.artifact.record import weights_sha256
from efface.auditing.answers import Answers, keep
from efface.errors import InputError

__all__ = ["Found", "depends_on", "remembered"]

Found = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors, and plain values beside them."""


def remembered(folder: Path | None, kind: str, content: list[Any], find: Callable[[], Found]) -> Found:
    """Return what `find` finds, from the file if it was found before under the same content.

    Args:
        folder: Where it is kept; it may be deleted at any time. None finds it anew.
        kind: What the file's name starts with.
        content: All that it depends on, as plain values; see `depends_on`.
        find: Does the work.

    Raises:
        InputError: The kept file is damaged.
    """
    if folder is None:
        return find()
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    path = folder / f"{kind}-{digest}.safetensors"
    if path.is_file():
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, dict(json.loads(file.metadata()["about"]))
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it, and the model is looked at again") from None
    tensors, about = find()
    keep(path, safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, {"about": json.dumps(about)}))
    return tensors, about


def depends_on(answers: Answers) -> list[Any]:
    """Return what anything found out about a model depends on: weights, data, request, settings, seed, head, device."""
    records = answers.records
    assert records.split.resolved is not None
    return [
        weights_sha256(answers.model.state_dict()),
        records.split.data.fingerprint,
        records.split.resolved.fingerprint,
        records.settings.model_dump(mode="json"),
        records.run.seed,
        _head(answers.original),
        next((p.device.type for p in answers.model.parameters()), "cpu"),
    ]


def _head(original: Answers | None) -> str:
    """Return the name of the original's head; empty where it has none, which whoever looks at features then says."""
    try:
        return "" if original is None else original.layer
    except InputError:
        return ""
