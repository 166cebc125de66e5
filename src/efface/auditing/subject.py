"""What an audit looks at: the records it drew, and what each model answers on them, computed once per model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from efface.auditing.answers import Answers
from efface.auditing.margins import margins
from efface.auditing.matching import match_by_class
from efface.auditing.outputs import logits_of
from efface.auditing.utility import correct
from efface.data.part import Part
from efface.data.split import Split
from efface.errors import InputError
from efface.models.head import head
from efface.models.mode import evaluating
from efface.run import Run

__all__ = ["AuditSettings", "Scene", "Subject"]


class AuditSettings(BaseModel):
    """What an audit may spend; every bound that bites is named in the audit's notes.

    Attributes:
        retain_samples: Most kept training records that are looked at.
        attack_samples: Most records on each side of an attack.
        probe_per_class: Training records of each class for the full probe.
        few_per_class: Training records of each class for the probe from a few records.
        few_draws: Draws of that probe.
        probe_test: Most unseen records of the forgotten classes for probes.
        relearn_cap: Most relearning steps of a retrained model, or where there is none; 0 leaves relearning out.
        relearn_alpha: How close to the original's forget accuracy relearning must come.
        resamples: Bootstrap resamples.
        fpr: False-positive rate for true-positive rates; raised to what the records support.
        confidence: Of all intervals.
        tolerance: Gap in a share (accuracy, AUC, recall) that counts as run-to-run noise while no floor is known.
        probe_tolerance: The same for the probe from a few records, which varies more from run to run.
        shift_tolerance: The same for `forget_shift`.
        separation_factor: Factor in `separation` that counts as noise while no floor is known.
        ain_factor: Factor in relearning steps that counts as noise while no floor is known.
        floor_models: Most further retrained models whose features and relearning are measured for floors.
        exposed: How many records to list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    retain_samples: int = Field(default=10_000, ge=1)
    attack_samples: int = Field(default=2_000, ge=2)
    probe_per_class: int = Field(default=200, ge=1)
    few_per_class: int = Field(default=1, ge=1)
    few_draws: int = Field(default=100, ge=2)
    probe_test: int = Field(default=1_000, ge=1)
    relearn_cap: int = Field(default=100, ge=0)
    relearn_alpha: float = Field(default=0.05, ge=0, lt=1)
    resamples: int = Field(default=1_000, ge=100)
    fpr: float = Field(default=0.01, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    tolerance: float = Field(default=0.02, ge=0, lt=1)
    probe_tolerance: float = Field(default=0.10, ge=0, lt=1)
    shift_tolerance: float = Field(default=0.25, ge=0, lt=0.5)
    separation_factor: float = Field(default=1.2, gt=1)
    ain_factor: float = Field(default=2.0, gt=1)
    floor_models: int = Field(default=7, ge=0)
    exposed: int = Field(default=10, ge=0)

    def tolerance_of(self, measure: str, reference: float | None) -> float:
        """Return the gap that counts as noise for one score while no floor is known.

        Args:
            measure: Key of the score.
            reference: The retrained model's, for tolerances that are factors.
        """
        if measure == "separation":
            return (self.separation_factor - 1) * abs(reference or 0.0)
        wider = {"probe_recall_few": self.probe_tolerance, "forget_shift": self.shift_tolerance}
        return wider.get(measure, self.tolerance)


@dataclass(frozen=True, eq=False)
class Scene:
    """The records that all models are asked about, drawn once, by purpose, from the run's seed.

    Attributes:
        split: The data under the request.
        settings: Bounds.
        run: Device and randomness.
        parts: `forget`, `retain`, `test_retain`, `test_forget`, `held_out` (unseen records like the forget data:
            test data of the forgotten classes, or all test data for items), `probe_train`, `probe_test`.
        members: Positions in `forget` used by attacks.
        others: Positions in `held_out` used by attacks, as many of each class as members.
        watched: Positions in `forget` used where margins of two models are compared.
        notes: What was drawn.
    """

    split: Split
    settings: AuditSettings
    run: Run
    parts: Mapping[str, Part]
    members: Tensor
    others: Tensor
    watched: Tensor
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, split: Split, settings: AuditSettings, run: Run) -> Scene:
        """Draw the records.

        Raises:
            InputError: If the split has no request.
        """
        if split.request is None:
            raise InputError("An audit needs a request: make the split with Split.of(data, request).")
        notes: list[str] = []

        def bounded(part: Part, size: int, purpose: str) -> Part:
            if len(part) <= size:
                return part
            notes.append(f"{size} of {len(part)} records of the {part.name} part, drawn at random, for {purpose}.")
            return part.sample(size, run.generator(f"audit/{purpose}"))

        parts = {
            "forget": split.forget,
            "retain": bounded(split.retain, settings.retain_samples, "accuracy on kept training data"),
            "test_retain": split.test_retain,
            "test_forget": split.test_forget,
            "held_out": split.test_forget if split.forget_classes else split.test,
        }
        if split.forget_classes:
            train, generator = split.train, run.generator("audit/probe")
            rows = [
                (train.labels == c)
                .nonzero()
                .flatten()[
                    torch.randperm(int((train.labels == c).sum()), generator=generator)[: settings.probe_per_class]
                ]
                for c in range(len(split.data.classes))
            ]
            chosen = torch.cat(rows).sort().values
            if len(chosen) < len(train):
                notes.append(
                    f"{len(chosen)} of {len(train)} training records, drawn at random, equally by class, "
                    "for the probes."
                )
            parts["probe_train"] = train.take(chosen, "probe")
            parts["probe_test"] = bounded(split.test_forget, settings.probe_test, "the probes' unseen records")
        members = others = torch.empty(0, dtype=torch.int64)
        if len(parts["held_out"]) and set(parts["forget"].labels.tolist()) & set(parts["held_out"].labels.tolist()):
            generator = run.generator("audit/membership")
            labels = parts["forget"].labels, parts["held_out"].labels
            members, others = match_by_class(*labels, generator, settings.attack_samples)
            notes.append(f"Attacks compare {len(members)} forget records with as many unseen ones, matched by class.")
        drawn = torch.randperm(len(parts["forget"]), generator=run.generator("audit/watched"))
        watched = drawn[: settings.attack_samples].sort().values
        return cls(split, settings, run, parts, members, others, watched, notes)

    @property
    def by_class(self) -> bool:
        """Whether whole classes are forgotten."""
        return bool(self.split.forget_classes)

    @cached_property
    def layer(self) -> dict[str, str]:
        """Filled by the first subject: the name of the layer whose input is the features."""
        return {}


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
        ask = logits_of if self.answers is None else self.answers.logits
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
        x, _ = next(self.scene.parts["forget"].take([0]).batches(1, device=self.scene.run.device))
        with evaluating(self.model):
            name, _ = head(self.model, x)
        self.scene.layer.setdefault("name", name)
        return name

    @property
    def attack_margins(self) -> tuple[Tensor, Tensor]:
        """Margins of the forget records and of the unseen ones that attacks compare."""
        return self.margin("forget")[self.scene.members], self.margin("held_out")[self.scene.others]
