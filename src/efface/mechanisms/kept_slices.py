"""Finished slices of a member's training in files, so that a training that was stopped goes on after the last one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from efface.artifact.record import weights_sha256
from efface.files import write_file
from efface.running.run import Run
from efface.training.recipe import Recipe

__all__ = ["KeptSlices"]


class KeptSlices:
    """The states after each slice of one member's training, named by all that the training starts from.

    That is what the run is for (the method and its settings), the recipe, the seed, the stage, the first slice, the
    network with the weights before it, the positions of every slice and the data: a file of another training is never
    taken for this one's. Nothing is unpickled.

    Args:
        folder: Where the files go; made if need be.
        run: Its seed is that of the training.
        stage: Names the member.
        model: Its state is that before slice `start`.
        lists: The positions of every slice.
        recipe: Of the whole training.
        start: First slice to train with.
        fingerprint: Of the data.
    """

    def __init__(
        self,
        folder: Path,
        run: Run,
        stage: str,
        model: nn.Module,
        lists: Sequence[np.ndarray],
        recipe: Recipe,
        start: int,
        fingerprint: str,
    ) -> None:
        self._folder, self._run, self._stage = folder, run, stage
        digest = hashlib.sha256(f"{run.seed}/{stage}/{start}/{fingerprint}/{torch.__version__}".encode())
        digest.update(f"/{run.purpose}/{run.device.type}/{model!r}/".encode())
        digest.update(f"{recipe.model_dump_json()}/{weights_sha256(model.state_dict())}".encode())
        for positions in lists:
            digest.update(f"/{len(positions)}/".encode() + np.ascontiguousarray(positions, np.int64).tobytes())
        self._name = "".join(c if c.isalnum() else "-" for c in stage) + f"-{digest.hexdigest()[:16]}"

    def path(self, j: int) -> Path:
        """Return the file of the state after slice j."""
        return self._folder / f"{self._name}-slice-{j}.safetensors"

    def read(self, j: int) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
        """Return the state after slice j and the history of its training; None without a sound file."""
        if not self.path(j).is_file():
            return None
        try:
            with safe_open(self.path(j), framework="pt") as file:
                rows = json.loads(file.metadata()["history"])
                return {name: file.get_tensor(name) for name in file.keys()}, rows  # noqa: SIM118 - no mapping
        except (SafetensorError, KeyError, ValueError, TypeError):
            self._run.note(f"{self.path(j).name} cannot be read; {self._stage}/slice {j} is trained again")
            return None

    def write(self, j: int, state: dict[str, Tensor], rows: list[dict[str, Any]]) -> None:
        """Keep the state after slice j."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_file(self.path(j), safetensors.torch.save(state, {"history": json.dumps(rows)}))
