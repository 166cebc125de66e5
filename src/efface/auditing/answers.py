"""What each model answers on the records, asked once; for references kept on disk."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from efface.artifact.record import weights_sha256
from efface.auditing.measures.accuracy import correct
from efface.auditing.measures.margins import check_logits, margins
from efface.auditing.records import Records
from efface.auditing.rows import Row, Rows
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.files import write_file
from efface.models.head import head
from efface.models.mode import evaluating
from efface.models.predictions import logits_of

__all__ = ["AllAnswers", "Answers", "KeptAnswers", "checked_logits", "keep"]

ASKED = ("forget", "retain", "test_retain", "test_forget")
"""Parts that every model is asked about; probes ask for features instead."""


OTHER_LABELS = 9
"""Wrong labels with which an unseen record stands beside records that may have them."""


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


def keep(path: Path, content: bytes) -> None:
    """Keep what need not be asked again; a folder that is full, or cannot be written to, costs time only.

    Warns:
        UserWarning: It cannot be kept; shown once for a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
    except OSError as error:
        _warn_of(path.parent.absolute(), error.strerror)


@cache
def _warn_of(folder: Path, why: str) -> None:
    """Say once that answers cannot be kept; Python's own registry forgets whenever a filter of warnings changes."""
    warnings.warn(
        f"answers cannot be kept in {folder} ({why}); the next audit asks these models again",
        stacklevel=1,
    )


@dataclass(frozen=True)
class KeptAnswers:
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
        keep(path, safetensors.torch.save({"logits": logits}))
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


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answers on the records.

    Attributes:
        name: The row's name.
        model: On the run's device.
        records: Which records.
        logits: By part, float32, on the CPU.
        labels: By part.
        original: The original's answers, whose head says where the features are; None for the original itself.
    """

    name: str
    model: nn.Module
    records: Records
    logits: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    original: Answers | None = None
    _margins: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _correct: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls, row: Row, records: Records, *, original: Answers | None = None, kept: KeptAnswers | None = None
    ) -> Answers:
        """Ask a model about every part but the probes'.

        Args:
            row: The model.
            records: What it is asked.
            original: The original's answers, for all other models.
            kept: Where answers are kept from one audit to the next; None asks the model.

        Raises:
            InputError: If the model has another number of outputs than the data has classes, or answers not in numbers.
        """
        run, split, model = records.run, records.split, row.model
        parameter = next(model.parameters(), None)
        if parameter is not None and parameter.device.type != run.device.type:
            model = run.copied(model)
        logits, labels = {}, {}
        for name in ASKED:
            part = records.parts[name]
            found = (kept.logits if kept else checked_logits)(model, part, name=f"the model {row.name!r}")
            if len(part) and found.shape[1] != len(split.data.classes):
                raise InputError(
                    f"The model {row.name!r} has {found.shape[1]} outputs, but {split.data.name} has "
                    f"{len(split.data.classes)} classes; give a model with one output per class, in the data's order."
                )
            logits[name], labels[name] = found, part.labels
        for by_part in (logits, labels):
            by_part["held_out"] = by_part["test_forget" if records.by_class else "test_retain"]
        return cls(row.name, model, records, logits, labels, original)

    def margin(self, part: str) -> Tensor:
        """Return the margins on a part, float64, computed once."""
        if part not in self._margins:
            empty = not len(self.labels[part])
            self._margins[part] = (
                torch.empty(0, dtype=torch.float64) if empty else margins(self.logits[part], self.labels[part])
            )
        return self._margins[part]

    @cached_property
    def unseen_margins(self) -> Tensor:
        """Margins of unseen records for labels that forget records may have, flat.

        Forgotten classes are compared with unseen records of these classes. Single records may have wrong labels, which
        unseen ones have not: there each unseen record stands with up to nine other labels besides, the next ones.
        """
        own = self.margin("held_out")
        if self.records.by_class or not len(own):
            return own
        logits, labels = self.logits["held_out"], self.labels["held_out"]
        classes = logits.shape[1]
        others = [margins(logits, (labels + k) % classes) for k in range(1, min(classes, 1 + OTHER_LABELS))]
        return torch.cat([own, *others])

    def correct(self, part: str) -> Tensor:
        """Return which records of a part are answered with their label, computed once."""
        if part not in self._correct:
            self._correct[part] = correct(self.logits[part], self.labels[part])
        return self._correct[part]

    def accuracy(self, part: str) -> float:
        """Return the share of a part that is answered with its label; NaN if it is empty."""
        return float(self.correct(part).double().mean()) if len(self.labels[part]) else float("nan")

    @cached_property
    def layer(self) -> str:
        """Name of the layer whose input is the features: the original's head where this model has one of that name.

        A layer that a method put behind the features is so counted to the head.

        Raises:
            InputError: If the logits do not come from a linear layer.
        """
        if self.original is not None and self.original.layer in dict(self.model.named_modules()):
            return self.original.layer
        x, _ = next(self.records.parts["forget"].take([0]).batches(Epoch(1, device=self.records.run.device)))
        with evaluating(self.model):
            name, _ = head(self.model, x)
        return name

    @property
    def attack_margins(self) -> tuple[Tensor, Tensor]:
        """Margins of the forget records and of the unseen ones that attacks compare."""
        return self.margin("forget")[self.records.members], self.margin("held_out")[self.records.others]


@dataclass(frozen=True, eq=False)
class AllAnswers:
    """The answers of all models of an audit.

    Attributes:
        table: Of the table's rows, by name.
        original: Of the model before forgetting.
        candidate: Of the model that the verdict is about.
        retrained: Of the retrained model of the table.
        further: Of more retrained models.
        repeats: Of more models that were unlearned as the candidate was.
    """

    table: Mapping[str, Answers]
    original: Answers
    candidate: Answers
    retrained: Answers | None
    further: Sequence[Answers] = ()
    repeats: Sequence[Answers] = ()

    @classmethod
    def of(cls, rows: Rows, records: Records, kept: KeptAnswers | None = None) -> AllAnswers:
        """Ask each model once.

        Args:
            rows: The models.
            records: What they are asked.
            kept: Where answers of further models are kept, and taken from. Rows of the table are always asked: two
                modules of the same weights may compute different things.
        """
        run = records.run
        original = Answers.of(rows.original, records)
        table = {
            row.name: original if row is rows.original else Answers.of(row, records, original=original)
            for row in run.track(rows.table, "audit: answers", len(rows.table))
        }
        further, repeats = (
            [
                Answers.of(row, records, original=original, kept=kept)
                for row in run.track(models, f"audit: {what}", len(models))
            ]
            for models, what in ((rows.further, "further retrained"), (rows.repeats, "repeated runs"))
        )
        retrained = None if rows.retrained is None else table[rows.retrained.name]
        return cls(table, original, table[rows.candidate.name], retrained, further, repeats)

    @property
    def everyone(self) -> list[Answers]:
        """Of all retrained models."""
        return [*([] if self.retrained is None else [self.retrained]), *self.further]
