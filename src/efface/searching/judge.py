"""Judging a trial: quick questions on held-out data, then, where references are given, the audit's own questions."""

from __future__ import annotations

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
from efface.auditing.measures.probe import few_record_probe
from efface.auditing.rows import Row, Rows
from efface.auditing.settings import AuditSettings
from efface.data.subset import held_out_as_test
from efface.errors import InputError
from efface.models.head import head_of
from efface.models.predictions import accuracy_of, features_of
from efface.searching.trials import Trial

__all__ = ["Judge", "Standards"]

PROBE_PER_CLASS = 50


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
    """

    kept: float = 0.02
    forgotten: float = 0.05
    probe: float = 0.10


class Judge:
    """Measures a candidate on held-out training data against the original and the references; test data is never read.

    Quick questions come first. A candidate that meets the standards is then asked all of the audit's own questions,
    where references are given, with held-out samples in the place of test data; each that finds a difference adds one.

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
        self.probe_expected = None if first is None or not split.forget_classes else self._probe(first)

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
        probe = None if self.probe_expected is None else self._probe(model)
        allowed = self.standards
        if split.forget_classes:
            off = gone - (self.gone_expected or 0.0)
        else:
            off = abs(gone - (kept if self.gone_expected is None else self.gone_expected))
        excess = max(0.0, self.kept_before - kept - allowed.kept) + max(0.0, off - allowed.forgotten)
        if probe is not None and self.probe_expected is not None:
            excess += max(0.0, probe - self.probe_expected - allowed.probe)
        differs: tuple[str, ...] = ()
        if excess == 0 and self.references:
            differs = self._differences(model)
            excess = float(len(differs))
        seconds = made.record.seconds["forget"]
        return Trial(
            method=made.record.method,
            settings=settings,
            kept=kept,
            forgotten=gone,
            probe=probe,
            excess=excess,
            differs=differs,
            seconds=seconds,
            spent=seconds + time.perf_counter() - started,
        )

    def _differences(self, model: nn.Module) -> tuple[str, ...]:
        """Return the keys of the audit's questions that tell the candidate from retrained models.

        Raises:
            InputError: These models are none to compare with.
        """
        first, *further = (Row(f"retrained {k}", "retrained", m) for k, m in enumerate(self.references))
        original = Row("original", "original", self.case.run.copied(self.case.original.model))
        rows = Rows((original, first, Row("candidate", "candidate", model)), further=tuple(further))
        audit = assess(rows, self.unseen, self.case.run.child(), settings=AuditSettings(canaries=False))
        if audit.verdict.unfit:
            raise InputError(audit.verdict.unfit)
        return tuple(check.key for check in audit.verdict.checks if check.outcome == "differs")

    def _probe(self, model: nn.Module) -> float:
        split, run = self.case.split, self.case.run
        whole = split.forget.joined(split.retain)
        generator = run.generator("auto/probe")
        kinds = (*split.forget_classes, *split.retain_classes)
        chosen = [whole.of_class(c).sample(PROBE_PER_CLASS, generator) for c in kinds]
        train = chosen[0]
        for part in chosen[1:]:
            train = train.joined(part)
        layer, _ = head_of(model, split.data.input_shape)
        shares = few_record_probe(
            features_of(model, train, layer), train.labels, features_of(model, self.gone, layer), generator
        )
        labels = self.gone.labels
        return float(shares[torch.arange(len(labels)), labels].mean())


def described(made: Artifact, lines: Sequence[str], failures: Sequence[str] = ()) -> Artifact:
    """Return an artifact whose record also holds these notes; the failures among them say why it is no result."""
    record = made.record.model_copy(
        update={"notes": (*made.record.notes, *lines), "failures": (*made.record.failures, *failures)}
    )
    return dataclasses.replace(made, record=record)
