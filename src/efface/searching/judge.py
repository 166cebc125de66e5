"""Judging a trial: quick questions on held-out data, then, where references are given, the audit's own questions."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.auditing.assess import assess
from efface.auditing.measures.intervals import prediction_interval
from efface.auditing.measures.probe import few_record_probe
from efface.auditing.measures.separation import class_separation
from efface.auditing.rows import LEAST_REFERENCES, Row, Rows
from efface.auditing.settings import AuditSettings
from efface.data.part import Part
from efface.data.subset import held_out_as_test
from efface.errors import InputError
from efface.models.head import head_of
from efface.models.predictions import accuracy_of, features_of
from efface.running.run import Run
from efface.searching.trials import Trial

__all__ = ["Judge", "Standards"]

PROBE_PER_CLASS = 200
MOST_KEPT = 5_000  # kept training records whose accuracy is compared with the references'
BEYOND = 0.2  # what a miss by the whole width of a band counts, beside misses in shares


@dataclass(frozen=True)
class Standards:
    """What a method has to reach to be taken, in shares.

    Attributes:
        kept: Largest drop of accuracy on held-out samples of kept classes, against the original.
        forgotten: Classes: how far accuracy on held-out samples of the forgotten classes may exceed the retrained
            model's (0 without one). Items: how far accuracy on the samples to forget may be from the retrained model's
            (without one: from accuracy on held-out samples, which a model has never seen either).
        probe: How far nearest-mean recall of the forgotten classes' held-out samples on the features may exceed the
            retrained model's; not asked without one.
        confidence: With four references or more: the share of further retrained models that each of their bands holds.
    """

    kept: float = 0.02
    forgotten: float = 0.05
    probe: float = 0.10
    confidence: float = 0.99


class Judge:
    """Measures a candidate on held-out training data against the original and the references; test data is never read.

    Quick questions come first. With four references or more, the probe from one record a class, the separation of the
    class in the features and accuracy on kept training data have to lie where 99 % (`Standards.confidence`) of further
    retrained models would: closer than an audit asks, as the audit may have other references. At 95 % it turned away
    models that other references cannot tell from retrained ones (docs/research.md). A candidate that meets the
    standards is then asked all of the audit's own questions, where references are given, with held-out samples in the
    place of test data; each that finds a difference adds one.

    Args:
        case: The original under the request.
        references: Models retrained without the data; may be empty.
        standards: What has to be reached.
    """

    def __init__(self, case: Case, references: Sequence[nn.Module] = (), standards: Standards | None = None) -> None:
        split, run = case.split, case.run
        self.case, self.standards = case, standards or Standards()
        self.kept = split.validation_retain
        self.gone = split.validation_forget if split.forget_classes else split.forget
        self.unseen = held_out_as_test(split)
        self.references = [run.copied(model) for model in references]
        self.kept_before = accuracy_of(run.copied(case.original.model), self.kept)
        first = self.references[0] if self.references else None
        self.gone_expected = None if first is None else accuracy_of(first, self.gone)
        self.looks = Looks.of(case) if split.forget_classes and self.references else None
        seen = [self.looks.at(model) for model in self.references] if self.looks else []
        self.probe_expected = seen[0]["probe"] if seen else None
        self.bands = bands_of(seen, self.standards.confidence) if len(seen) >= LEAST_REFERENCES else {}

    @property
    def basis(self) -> str:
        """What it judges by, in words."""
        if not self.references:
            return "held-out data alone (no reference: features and relearning are not looked at)"
        return f"held-out data and {len(self.references)} retrained model{'s' if len(self.references) > 1 else ''}"

    def __call__(self, made: Artifact, settings: dict[str, Any]) -> Trial:
        """Return what the candidate reached and by how much it misses the standards.

        Args:
            made: What a method made.
            settings: The hyper-parameters that are to be written down.
        """
        started, split, run = time.perf_counter(), self.case.split, self.case.run
        model = run.copied(made.model)
        kept, gone = (accuracy_of(model, part) for part in (self.kept, self.gone))
        allowed = self.standards
        misses = {"worse": self.kept_before - kept - allowed.kept}
        if split.forget_classes:
            misses["left"] = gone - (self.gone_expected or 0.0) - allowed.forgotten
        else:
            off = gone - (kept if self.gone_expected is None else self.gone_expected)
            misses |= {"left": off - allowed.forgotten, "over": -off - allowed.forgotten}
        seen = self.looks.at(model) if self.looks else {}
        if self.bands:
            for key, (low, high) in self.bands.items():
                if key not in seen:
                    continue
                below, above = SIDES[key]
                unit = BEYOND / max(high - low, 1e-9)
                for side, beyond in ((below, low - seen[key]), (above, seen[key] - high)):
                    if side:
                        misses[side] = max(0.0, misses.get(side, 0.0)) + max(0.0, unit * beyond)
        elif seen:
            assert self.probe_expected is not None
            misses["left"] = max(0.0, misses["left"]) + max(0.0, seen["probe"] - self.probe_expected - allowed.probe)
        excess = sum(max(0.0, miss) for miss in misses.values())
        sides = {side for side, miss in misses.items() if miss > 0}
        differs: dict[str, str] = {}
        if excess == 0 and self.references:
            differs = self._differences(model)
            excess, sides = float(len(differs)), set(differs.values())
        seconds = made.record.seconds["forget"]
        return Trial(
            method=made.record.method,
            settings=settings,
            weights=made.record.weights_after,
            kept=kept,
            forgotten=gone,
            probe=seen.get("probe"),
            excess=excess,
            differs=tuple(differs),
            side="several" if len(sides) > 1 else next(iter(sides), ""),
            seconds=seconds,
            spent=seconds + time.perf_counter() - started,
        )

    def _differences(self, model: nn.Module) -> dict[str, str]:
        """Return the keys of the audit's questions that tell the candidate from retrained models, and their sides.

        Raises:
            InputError: These models are none to compare with.
        """
        first, *further = (Row(f"retrained {k}", "retrained", m) for k, m in enumerate(self.references))
        original = Row("original", "original", self.case.run.copied(self.case.original.model))
        rows = Rows((original, first, Row("candidate", "candidate", model)), further=tuple(further))
        audit = assess(rows, self.unseen, self.case.run.child(), settings=AuditSettings(canaries=False))
        if audit.verdict.unfit:
            raise InputError(audit.verdict.unfit)
        return {check.key: check.direction for check in audit.verdict.checks if check.outcome == "differs"}


@dataclass(frozen=True, eq=False)
class Looks:
    """What is looked at in the features, the same records for every model.

    Attributes:
        layer: Name of the head.
        train: Equally many training records of every class.
        asked: Held-out records of the forgotten classes.
        kept: Kept training records.
        classes: The forgotten classes.
        run: Randomness.
    """

    layer: str
    train: Part
    asked: Part
    kept: Part
    classes: tuple[int, ...]
    run: Run

    @classmethod
    def of(cls, case: Case) -> Looks:
        """Draw the records."""
        split, run = case.split, case.run
        generator = run.generator("auto/probe")
        parts = (split.forget, split.retain)
        chosen = [
            part.take(own.get(c, ())).sample(PROBE_PER_CLASS, generator)
            for part, kinds in zip(parts, (split.forget_classes, split.retain_classes), strict=True)
            for own in (part.by_class(),)
            for c in kinds
        ]
        train = chosen[0]
        for part in chosen[1:]:
            train = train.joined(part)
        layer, _ = head_of(case.original.model, split.data.input_shape)
        kept = split.retain.sample(MOST_KEPT, generator)
        return cls(layer, train, split.validation_forget, kept, split.forget_classes, run)

    def at(self, model: nn.Module) -> dict[str, float]:
        """Return one model's few-record recall, accuracy on kept training records, and separation.

        Features that do not vary within classes have no separation, in an audit neither; it is left out then.
        """
        seen, asked = (features_of(model, part, self.layer) for part in (self.train, self.asked))
        labels = self.asked.labels
        shares = few_record_probe(seen, self.train.labels, asked, self.run.generator("auto/few records"))
        found = {
            "probe": float(shares[torch.arange(len(labels)), labels].mean()),
            "training": accuracy_of(model, self.kept),
        }
        with contextlib.suppress(InputError):
            found["separation"] = float(class_separation(seen, self.train.labels, self.classes)[0])
        return found


SIDES = {"probe": ("over", "left"), "separation": ("over", "left"), "training": ("worse", "")}
"""What a value below and above the references' band means."""


def bands_of(seen: Sequence[dict[str, float]], confidence: float) -> dict[str, tuple[float, float]]:
    """Return, by key, where this share of further retrained models would lie."""
    found = {}
    for key in sorted(set.intersection(*map(set, seen))):
        band = prediction_interval(torch.tensor([one[key] for one in seen]), confidence)
        found[key] = (band.low, band.high)
    return found


def described(made: Artifact, lines: Sequence[str], failures: Sequence[str] = ()) -> Artifact:
    """Return an artifact whose record also holds these notes; the failures among them say why it is no result."""
    record = made.record.model_copy(
        update={"notes": (*made.record.notes, *lines), "failures": (*made.record.failures, *failures)}
    )
    return dataclasses.replace(made, record=record)
