"""What each model answers on the records, asked once; for references kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from efface.artifact.record import weights_sha256
from efface.auditing.measures.accuracy import correct
from efface.auditing.measures.margins import check_logits, margins
from efface.auditing.records import Scene
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.files import write_file
from efface.models.head import head
from efface.models.mode import evaluating
from efface.models.predictions import logits_of

__all__ = ["Answers", "Subject", "checked_logits"]


def checked_logits(model: nn.Module, part: Part, *, name: str = "the model") -> Tensor:
    """Return a model's logits on a part, refused where no score can be computed from them.

    Args:
        model: From inputs to logits.
        part: What it is asked; may be empty.
        name: What the model is called, for messages.

    Raises:
        InputError: The logits cannot be used; see `check_logits`.
    """
    logits = logits_of(model, part, name=name)
    if len(part):
        check_logits(logits, part.labels, where=f"the logits of {name} on the {part.name} part")
    return logits


@dataclass(eq=False)
class Subject:
    """One model and its answers on the scene's parts.

    Attributes:
        name: The row's name.
        model: On the run's device.
        scene: Which records.
        answers: Where answers of models of one build are kept from one audit to the next; None asks the model.
        logits: By part, float32, on the CPU.
        labels: By part.
    """

    name: str
    model: nn.Module
    scene: Scene
    answers: Answers | None = None
    logits: dict[str, Tensor] = field(default_factory=dict)
    labels: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Ask the model about every part but the probes' ones.

        Raises:
            InputError: If the model has another number of outputs than the data has classes, or answers not in numbers.
        """
        run, split = self.scene.run, self.scene.split
        ask = checked_logits if self.answers is None else self.answers.logits
        parameter = next(self.model.parameters(), None)
        if parameter is not None and parameter.device.type != run.device.type:
            self.model = run.copied(self.model)
        for part_name in ("forget", "retain", "test_retain", "test_forget"):
            part = self.scene.parts[part_name]
            logits = ask(self.model, part, name=f"the model {self.name!r}")
            if len(part) and logits.shape[1] != len(split.data.classes):
                raise InputError(
                    f"The model {self.name!r} has {logits.shape[1]} outputs, but {split.data.name} has "
                    f"{len(split.data.classes)} classes; give a model with one output per class, in the data's order."
                )
            self.logits[part_name], self.labels[part_name] = logits, part.labels
        for name in ("logits", "labels"):
            answers = getattr(self, name)
            answers["held_out"] = answers["test_forget"] if self.scene.by_class else answers["test_retain"]

    def margin(self, part: str) -> Tensor:
        """Return the margins on a part, float64, computed once."""
        if part not in self._margins:
            empty = not len(self.labels[part])
            self._margins[part] = (
                torch.empty(0, dtype=torch.float64) if empty else margins(self.logits[part], self.labels[part])
            )
        return self._margins[part]

    def correct(self, part: str) -> Tensor:
        """Return which records of a part are answered with their label."""
        return correct(self.logits[part], self.labels[part])

    @cached_property
    def _margins(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def layer(self) -> str:
        """Name of the layer whose input is the features: the original's head where this model has one of that name.

        A layer that a method put behind the features is so counted to the head.

        Raises:
            InputError: If the logits do not come from a linear layer.
        """
        known = self.scene.layer.get("name")
        if known is not None and known in dict(self.model.named_modules()):
            return known
        x, _ = next(self.scene.parts["forget"].take([0]).batches(Epoch(1, device=self.scene.run.device)))
        with evaluating(self.model):
            name, _ = head(self.model, x)
        self.scene.layer.setdefault("name", name)
        return name

    @property
    def attack_margins(self) -> tuple[Tensor, Tensor]:
        """Margins of the forget records and of the unseen ones that attacks compare."""
        return self.margin("forget")[self.scene.members], self.margin("held_out")[self.scene.others]


@dataclass(frozen=True)
class Answers:
    """A folder of logits, one file for each model and part, of models of one architecture.

    Attributes:
        folder: Where they are kept; made when first needed. It may be deleted at any time.
    """

    folder: Path

    def logits(self, model: nn.Module, part: Part, *, name: str = "the model") -> Tensor:
        """Return what `checked_logits` returns, from the file if these weights were asked about these samples before.

        Args:
            model: From inputs to logits.
            part: What it is asked; may be empty.
            name: What the model is called, for messages.

        Raises:
            InputError: The kept file is damaged; or the logits cannot be used, see `check_logits`.
        """
        if not len(part):
            return checked_logits(model, part, name=name)
        path = self.folder / f"{self._key(model, part)}.safetensors"
        if path.is_file():
            try:
                return safetensors.torch.load_file(path)["logits"]
            except (safetensors.SafetensorError, KeyError) as error:
                raise InputError(f"{path} is damaged ({error}); delete it, and the model is asked again") from None
        logits = checked_logits(model, part, name=name)
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
