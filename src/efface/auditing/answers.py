"""What models answered, kept on disk: a retrained model is asked about a part once, however many audits use it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from efface.artifact import weights_sha256
from efface.auditing.outputs import logits_of
from efface.data.part import Part
from efface.errors import InputError
from efface.folder import write_file

__all__ = ["Answers"]


@dataclass(frozen=True)
class Answers:
    """A folder of logits, one file for each model and part, of models of one architecture.

    Attributes:
        folder: Where they are kept; made when first needed. It may be deleted at any time.
    """

    folder: Path

    def logits(self, model: nn.Module, part: Part, *, name: str = "the model") -> Tensor:
        """Return what `logits_of` returns, from the file if these weights were asked about these samples before.

        Args:
            model: From inputs to logits.
            part: What it is asked; may be empty.
            name: What the model is called, for messages.

        Raises:
            InputError: The kept file is damaged; or the logits cannot be used, see `check_logits`.
        """
        if not len(part):
            return logits_of(model, part, name=name)
        path = self.folder / f"{self._key(model, part)}.safetensors"
        if path.is_file():
            try:
                return safetensors.torch.load_file(path)["logits"]
            except (safetensors.SafetensorError, KeyError) as error:
                raise InputError(f"{path} is damaged ({error}); delete it, and the model is asked again") from None
        logits = logits_of(model, part, name=name)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(path, safetensors.torch.save({"logits": logits}))
        return logits

    def _key(self, model: nn.Module, part: Part) -> str:
        """Hash all that the logits depend on: weights, inputs, positions, and the kind of device that rounds them."""
        first = next(model.parameters(), None)
        content = [
            weights_sha256(model.state_dict()),
            part.samples.fingerprint,
            hashlib.sha256(part.indices.tobytes()).hexdigest(),
            "cpu" if first is None else first.device.type,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
