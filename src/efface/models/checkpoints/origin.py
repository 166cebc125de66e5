"""What a checkpoint came as, so that new weights can go back as the same: format, entry, names."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, JsonValue
from torch import Tensor

from efface.errors import InputError
from efface.files import write_file

__all__ = ["CAST", "CONFIG", "KEPT_BESIDE", "PREPROCESSOR", "Origin", "as_it_came", "kept_beside", "write_back"]

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
"""Files of a Hugging Face folder."""

SAFETENSORS, TORCH = (".safetensors",), (".pt", ".pth", ".ckpt", ".bin", ".tar")

CAST = ("float64", "bfloat16", "float16")
"""Types of weights that are cast to float32."""

KEPT_BESIDE = (
    "arch",
    "class_to_idx",
    "classes",
    "epoch",
    "global_step",
    "hparams_name",
    "hyper_parameters",
    "model_args",
    "pytorch-lightning_version",
)
"""Entries beside the weights that libraries need in order to load them again. All others are left out: an optimiser's
state, above all, holds what the data taught."""

LONGEST = 100_000
"""Characters of what is kept beside the weights, as JSON."""


class Origin(BaseModel):
    """How weights were stored when they came.

    Attributes:
        format: `safetensors`, `torch` (a file of torch.save) or `hugging-face` (a folder of save_pretrained).
        name: Name of the file or folder, without its path.
        nest: Entry of the checkpoint that held the state dict; empty if it was the whole file.
        prefix: What stood before every name.
        beside: Plain values that stood beside the weights and go back with them, see `KEPT_BESIDE`; for a folder, its
            `preprocessor_config.json`.
        dtype: Type of the weights where it was not float32: `float64`, `bfloat16` or `float16`; empty for float32, and
            where there were several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["safetensors", "torch", "hugging-face"]
    name: str
    nest: str = ""
    prefix: str = ""
    beside: dict[str, JsonValue] = {}
    dtype: str = ""


def as_it_came(state: Mapping[str, Tensor], came: str, *, rounded: bool = False) -> dict[str, Tensor]:
    """Return weights in the type in which the original's came, where nothing is lost by it or rounding is allowed.

    Args:
        state: Names and tensors; what is no float32 stays as it is.
        came: One of `CAST`; anything else changes nothing.
        rounded: Allow bfloat16 and half. A weight that moved by less than their last digit is then the original's
            again, so that small steps of forgetting are undone.
    """
    back = came in CAST and (rounded or came == "float64")
    return {k: v.to(getattr(torch, came)) if back and v.dtype == torch.float32 else v for k, v in state.items()}


def kept_beside(checkpoint: Mapping[Any, Any], nest: str) -> tuple[dict[str, JsonValue], list[str]]:
    """Return the plain entries beside the state dict that go back with new weights, and the names of all others."""
    kept: dict[str, JsonValue] = {}
    for name in KEPT_BESIDE:
        if name in checkpoint and _is_plain(checkpoint[name], 0):
            kept[name] = checkpoint[name]
    if len(json.dumps(kept, default=str)) > LONGEST:
        kept = {}
    return kept, sorted(str(name) for name in checkpoint if name != nest and name not in kept)


def _is_plain(value: object, depth: int) -> bool:
    if depth > 20:
        return False
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
    if isinstance(value, list):
        return all(_is_plain(v, depth + 1) for v in value)
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    return value is None or isinstance(value, bool | int | str)


def write_back(
    state: Mapping[str, Tensor],
    path: str | Path,
    origin: Origin | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write weights as those at `origin` were written, under the names that these had; whole or not at all.

    Args:
        state: Names, as the network has them, and tensors.
        path: A file, whose suffix chooses the format (.safetensors; .pt, .pth, .ckpt, .bin, .tar by torch.save).
        origin: How the original weights were stored; None for a plain state dict.
        overwrite: Replace what is there.

    Returns:
        The path.

    Raises:
        InputError: The path exists, or its suffix is of no format known here.
    """
    path, origin = Path(path), origin or Origin(format="safetensors", name="")
    tensors = {origin.prefix + k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    if path.suffix not in SAFETENSORS + TORCH:
        raise InputError(
            f"{path}: the suffix {path.suffix!r} says no format; allowed: {', '.join(SAFETENSORS + TORCH)}"
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise InputError(f"{path} exists; choose another file, or allow overwriting (--overwrite)")
    if path.suffix in SAFETENSORS:
        content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    else:
        whole: Any = {**origin.beside, origin.nest: tensors} if origin.nest else tensors
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_file(path, content)
