"""The parts of a memory that are files of their own: states of shards and classes after their slices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from efface.artifact.record import weights_sha256
from efface.errors import InputError

__all__ = ["file_of", "only_pieces", "prefix_of", "read_piece", "remedy", "sorted_out"]

PIECE = re.compile(r"(?:shards|classes)/\d+/\d+/")
"""How names of tensors begin that lie in a file of their own: kind, member, slice."""


def file_of(prefix: str) -> str:
    """Return the file's name in the folder: `shards/3/1/` lies in `shards/3/1.safetensors`."""
    return f"{prefix.removesuffix('/')}.safetensors"


def prefix_of(file: str) -> str:
    """Return how the names of a file's tensors begin; the inverse of `file_of`."""
    return f"{file.removesuffix('.safetensors')}/"


def sorted_out(memory: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the pieces of a memory by file, and what is left of it; names are whole in both."""
    pieces: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in memory.items():
        found = PIECE.match(name)
        (pieces.setdefault(file_of(found[0]), {}) if found else rest)[name] = tensor
    return pieces, rest


def read_piece(folder: Path, file: str, sha256: str) -> dict[str, Tensor]:
    """Read a piece and compare it with its hash.

    Args:
        folder: Of the artifact.
        file: Its name there.
        sha256: As recorded.

    Raises:
        InputError: It is missing, damaged or another one; says which file, and how to make it again.
    """
    try:
        tensors = safetensors.torch.load_file(folder / file)
    except (safetensors.SafetensorError, FileNotFoundError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise InputError(f"{folder / file} {what}. {remedy(folder)}") from None
    if (found := weights_sha256(tensors)) != sha256:
        raise InputError(
            f"{folder / file} was changed after writing (SHA-256 {found[:12]}..., recorded {sha256[:12]}...). "
            f"{remedy(folder)}"
        )
    return tensors


def only_pieces(folder: Path, name: str) -> bool:
    """Return whether a folder within an artifact's holds pieces, and nothing else."""
    files = [p.relative_to(folder).as_posix() for p in (folder / name).rglob("*") if not p.is_dir()]
    return bool(files) and all(f.endswith(".safetensors") and PIECE.fullmatch(prefix_of(f)) for f in files)


def remedy(folder: Path) -> str:
    """Return the command that makes damaged files of an artifact again, in a sentence."""
    return f"`efface repair {folder}` trains what it held again, to the same bits; sound files stay as they are"
