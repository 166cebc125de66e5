"""`--method auto`: try what the request and the data at hand allow, cheapest first, and take the first that does.

Everything is judged on held-out training data and, if given, one retrained model; test data is never read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import nn

from efface.artifact import Artifact
from efface.auditing.outputs import features_of
from efface.auditing.probe import few_record_probe
from efface.data import Split
from efface.errors import InputError
from efface.methods.catalogue import make, methods
from efface.methods.method import Expense, Method, apply
from efface.models.head import head
from efface.models.predictions import accuracy
from efface.run import Run

__all__ = ["Standards", "Trial", "candidates", "choose"]

NEVER = ("retrain", "logit-mask")
"""Retraining is the reference, not a shortcut; masking a logit passes every accuracy test and forgets nothing."""

PROBE_PER_CLASS = 50
EXPENSES = get_args(Expense)


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


def candidates(target: str) -> list[type[Method]]:
    """Return the methods that serve a target, cheapest first.

    The order is that of the methods' stated expense; among equals, those that read less data come first.
    """
    able = [m for name, m in methods().items() if target in m.needs.targets and name not in NEVER]
    return sorted(able, key=lambda m: (EXPENSES.index(m.expense), len(m.needs.reads), m.name))


def choose(
    artifact: Artifact, split: Split, run: Run, reference: nn.Module | None = None, standards: Standards | None = None
) -> Artifact:
    """Forget with the cheapest method that meets the standards, or with the one that misses them least.

    Args:
        artifact: The trained model.
        split: The data under the request.
        run: Device, randomness, progress.
        reference: A model retrained without the data, if there is one.
        standards: What has to be reached.

    Returns:
        The new artifact; its record's notes say what was tried and why it was taken.

    Raises:
        InputError: Nothing is held out to judge by, or no method could be applied.
    """
    standards = standards or Standards()
    split = split.only(("forget", "retain", "validation"), "auto")
    if split.request is None or len(split.validation_retain) == 0:
        raise InputError(
            "method auto judges on held-out training data, but nothing was held out; name a method instead"
        )
    if split.forget_classes and len(split.validation_forget) == 0:
        raise InputError("no sample of the classes to forget is held out, so auto cannot judge; name a method instead")
    judge = _Judge(artifact, split, run, reference, standards)
    trials: list[Trial] = []
    best: Artifact | None = None
    able = candidates(split.request.target)
    for kind in run.track(able, "auto", len(able)):
        attempt = run.twin()
        try:
            made = apply(make(kind.name), artifact, split, attempt)
        except InputError as error:
            trials.append(Trial(kind.name, refused=str(error)))
            continue
        trial = judge(made)
        if best is None or trial.excess < min(t.excess for t in trials):
            best = made
        trials.append(trial)
        if trial.excess == 0:
            break
    if best is None:
        raise InputError("no method could be applied: " + "; ".join(f"{t.method}: {t.refused}" for t in trials))
    return _explained(best, trials, with_reference=reference is not None)


class _Judge:
    """Measures a candidate on held-out data against the original and the reference."""

    def __init__(
        self, artifact: Artifact, split: Split, run: Run, reference: nn.Module | None, standards: Standards
    ) -> None:
        self.split, self.run, self.standards = split, run, standards
        self.kept = split.validation_retain
        self.gone = split.validation_forget if split.forget_classes else split.forget
        self.kept_before = accuracy(run.copied(artifact.model), self.kept, run.device)
        twin = None if reference is None else run.copied(reference)
        self.gone_expected = None if twin is None else accuracy(twin, self.gone, run.device)
        self.probe_expected = None if twin is None or not split.forget_classes else self._probe(twin)

    def __call__(self, made: Artifact) -> Trial:
        """Return what the candidate reached and by how much it misses the standards."""
        model = self.run.copied(made.model)
        kept, gone = (accuracy(model, part, self.run.device) for part in (self.kept, self.gone))
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


def _explained(made: Artifact, trials: list[Trial], *, with_reference: bool) -> Artifact:
    """Put what was tried, and why this was taken, into the record's notes."""

    def lines() -> Iterator[str]:
        against = "held-out data and a retrained model" if with_reference else "held-out data alone (no reference)"
        met = any(t.excess == 0 for t in trials)
        why = "the first to meet the standards" if met else "none met the standards; it misses them least"
        yield f"auto: took {made.record.method}, {why}; judged on {against}, cheapest first"
        yield from map(str, trials)

    record = made.record.model_copy(update={"notes": (*made.record.notes, *lines())})
    return dataclasses.replace(made, record=record)
