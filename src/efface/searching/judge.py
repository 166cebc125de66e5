"""Judging a trial on held-out data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.auditing.measures.probe import few_record_probe
from efface.data import Split
from efface.models.head import head
from efface.models.predictions import accuracy_of, features_of
from efface.running.run import Run

__all__ = ["Standards", "Trial"]

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


@dataclass(frozen=True)
class Trial:
    """What one method reached.

    Attributes:
        method: Its name.
        kept: Accuracy on held-out samples of kept classes.
        forgotten: Accuracy on what is to be forgotten (held-out samples for classes, the samples for items).
        probe: Recall on the features; None where not asked.
        excess: How far beyond the standards, summed; 0 means all are met.
        seconds: Wall time of forgetting.
        refused: Why the method could not be tried, or failed.
    """

    method: str
    kept: float = 0.0
    forgotten: float = 0.0
    probe: float | None = None
    excess: float = float("inf")
    seconds: float = 0.0
    refused: str = ""

    def __str__(self) -> str:
        """One line for the record."""
        if self.refused:
            return f"auto: {self.method} refused: {self.refused}"
        probe = "" if self.probe is None else f", recall on features {self.probe:.1%}"
        verdict = "meets the standards" if self.excess == 0 else f"misses them by {self.excess:.3f}"
        return (
            f"auto: {self.method}: kept {self.kept:.1%}, forgotten {self.forgotten:.1%}{probe}, {self.seconds:.2f} s; "
            f"{verdict}"
        )


class Judge:
    """Measures a candidate on held-out data against the original and the reference."""

    def __init__(
        self, artifact: Artifact, split: Split, run: Run, reference: nn.Module | None, standards: Standards
    ) -> None:
        self.split, self.run, self.standards = split, run, standards
        self.kept = split.validation_retain
        self.gone = split.validation_forget if split.forget_classes else split.forget
        self.kept_before = accuracy_of(run.copied(artifact.model), self.kept)
        twin = None if reference is None else run.copied(reference)
        self.gone_expected = None if twin is None else accuracy_of(twin, self.gone)
        self.probe_expected = None if twin is None or not split.forget_classes else self._probe(twin)

    def __call__(self, made: Artifact) -> Trial:
        """Return what the candidate reached and by how much it misses the standards."""
        model = self.run.copied(made.model)
        kept, gone = (accuracy_of(model, part) for part in (self.kept, self.gone))
        probe = None if self.probe_expected is None else self._probe(model)
        allowed = self.standards
        if self.split.forget_classes:
            off = gone - (self.gone_expected or 0.0)
        else:
            off = abs(gone - (kept if self.gone_expected is None else self.gone_expected))
        excess = max(0.0, self.kept_before - kept - allowed.kept) + max(0.0, off - allowed.forgotten)
        if probe is not None and self.probe_expected is not None:
            excess += max(0.0, probe - self.probe_expected - allowed.probe)
        return Trial(made.record.method, kept, gone, probe, excess, made.record.seconds["forget"])

    def _probe(self, model: nn.Module) -> float:
        whole = self.split.forget.joined(self.split.retain)
        generator = self.run.generator("auto/probe")
        kinds = (*self.split.forget_classes, *self.split.retain_classes)
        chosen = [whole.of_class(c).sample(PROBE_PER_CLASS, generator) for c in kinds]
        train = chosen[0]
        for part in chosen[1:]:
            train = train.joined(part)
        layer, _ = head(model, torch.zeros(2, *self.split.data.input_shape, device=self.run.device))
        shares = few_record_probe(
            features_of(model, train, layer), train.labels, features_of(model, self.gone, layer), generator
        )
        labels = self.gone.labels
        return float(shares[torch.arange(len(labels)), labels].mean())


def explained(made: Artifact, trials: list[Trial], *, with_reference: bool) -> Artifact:
    """Put what was tried, and why this was taken, into the record's notes."""

    def lines() -> Iterator[str]:
        against = "held-out data and a retrained model" if with_reference else "held-out data alone (no reference)"
        met = any(t.excess == 0 for t in trials)
        why = "the first to meet the standards" if met else "none met the standards; it misses them least"
        yield f"auto: took {made.record.method}, {why}; judged on {against}, cheapest first"
        yield from map(str, trials)

    record = made.record.model_copy(update={"notes": (*made.record.notes, *lines())})
    return dataclasses.replace(made, record=record)
