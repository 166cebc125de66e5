"""The records that all models are asked about, drawn once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.auditing.measures.matching import match_by_class
from efface.auditing.questions import asked
from efface.auditing.settings import AuditSettings
from efface.data.part import Part
from efface.data.split import Split
from efface.errors import InputError
from efface.running.run import Run

__all__ = ["Records"]


@dataclass(frozen=True, eq=False)
class Records:
    """The records that all models are asked about, drawn once, by purpose, from the run's seed.

    Attributes:
        split: The data under the request.
        settings: Bounds.
        run: Device and randomness.
        parts: `forget`, `retain`, `test_retain`, `test_forget`, `held_out` (unseen records like the forget data:
            test data of the forgotten classes, or of the kept ones for items), `probe_train`, `probe_test`.
        probed: The classes that probes tell apart; empty for a request of items.
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
    probed: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def drawn(cls, split: Split, settings: AuditSettings, run: Run) -> Records:
        """Draw the records.

        Raises:
            InputError: If the split has no request.
        """
        if split.request is None:
            raise InputError("An audit needs a request: make the split with Split.of(data, request).")
        notes: list[str] = []
        parts = {
            "forget": split.forget,
            "retain": _bounded(split.retain, settings.retain_samples, "accuracy on kept training data", run, notes),
            "test_retain": split.test_retain,
            "test_forget": split.test_forget,
            "held_out": split.test_forget if split.forget_classes else split.test_retain,
        }
        probed: tuple[int, ...] = ()
        if split.forget_classes:
            probed = _probed(split, settings, run, notes)
            unseen = split.test_forget
            if not set(split.forget_classes) <= set(probed):
                unseen = dataclasses.replace(unseen.of_class(*probed), name=unseen.name)
            parts["probe_train"] = _equally_by_class(split, probed, settings, run, notes)
            parts["probe_test"] = _bounded(unseen, settings.probe_test, "the probes' unseen records", run, notes)
        members = others = torch.empty(0, dtype=torch.int64)
        if len(parts["held_out"]) and set(parts["forget"].labels.tolist()) & set(parts["held_out"].labels.tolist()):
            generator = run.generator("audit/membership")
            labels = parts["forget"].labels, parts["held_out"].labels
            members, others = match_by_class(*labels, generator, settings.attack_samples)
            notes.append(f"Attacks compare {len(members)} forget records with as many unseen ones, matched by class.")
        notes += _of_canaries(split)
        drawn = torch.randperm(len(parts["forget"]), generator=run.generator("audit/watched"))
        watched = drawn[: settings.attack_samples].sort().values
        return cls(split, settings, run, parts, members, others, watched, probed, tuple(notes))

    @property
    def by_class(self) -> bool:
        """Whether whole classes are forgotten."""
        return bool(self.split.forget_classes)

    @property
    def probed_forgotten(self) -> tuple[int, ...]:
        """The forgotten classes among those that probes tell apart."""
        return tuple(c for c in self.split.forget_classes if c in set(self.probed))

    @property
    def among(self) -> str:
        """Among which classes probes look, in words; empty where these are all."""
        everyone = len(self.split.data.classes)
        return "" if len(self.probed) in {0, everyone} else f"among {len(self.probed)} of {everyone} classes"

    @property
    def with_canaries(self) -> bool:
        """Whether the canaries of training are asked about: the request names them, and the settings allow it."""
        return self.settings.canaries and self.split.request is not None and self.split.request.canaries

    @property
    def simultaneous_confidence(self) -> float:
        """Confidence of one gap, Bonferroni's share of the verdict's: 1 - (1 - confidence) / questions asked."""
        questions = asked(by_class=self.by_class, sealed=self.settings.sealed, canaries=self.with_canaries)
        return 1 - (1 - self.settings.confidence) / len(questions)


def _of_canaries(split: Split) -> list[str]:
    """Say which training records are canaries, and which of them stay."""
    planted = split.data.canaries
    if planted is None:
        return []
    asked = int((split.forget.indices >= planted.first).sum())
    places = f"Training records {planted.first} to {planted.positions[-1]} are canaries"
    left = len(split.canaries_left)
    return [
        f"{places}: {asked} of them to be forgotten, {left} stay" + (", as the request leaves them." if left else ".")
    ]


def _bounded(part: Part, size: int, purpose: str, run: Run, notes: list[str]) -> Part:
    """Return the part, or a sample of it, of which a note is made."""
    if len(part) <= size:
        return part
    notes.append(f"{size} of {len(part)} records of the {part.name} part, drawn at random, for {purpose}.")
    return part.sample(size, run.generator(f"audit/{purpose}"))


def _probed(split: Split, settings: AuditSettings, run: Run, notes: list[str]) -> tuple[int, ...]:
    """Return the classes that probes tell apart: all, or of too many some forgotten and some kept ones."""
    classes, most = len(split.data.classes), settings.probe_classes
    if classes <= most:
        return tuple(range(classes))
    generator = run.generator("audit/probe classes")

    def drawn(of: tuple[int, ...], size: int) -> list[int]:
        return [of[i] for i in torch.randperm(len(of), generator=generator)[:size].tolist()]

    gone = drawn(split.forget_classes, most // 2)
    chosen = sorted([*gone, *drawn(split.retain_classes, most - len(gone))])
    notes.append(
        f"{len(chosen)} of {classes} classes, drawn at random, for the probes: {len(gone)} of the "
        f"{len(split.forget_classes)} forgotten ones, and {len(chosen) - len(gone)} others."
    )
    return tuple(chosen)


def _equally_by_class(
    split: Split, classes: Sequence[int], settings: AuditSettings, run: Run, notes: list[str]
) -> Part:
    """Return training records for the probes, equally many of each class where there are enough."""
    train, generator = split.train, run.generator("audit/probe")
    by_class = {c: torch.from_numpy(own) for c, own in train.by_class().items()}
    rows = [
        own[torch.randperm(len(own), generator=generator)[: settings.probe_per_class]]
        for own in (by_class[c] for c in classes if c in by_class)
    ]
    chosen = torch.cat(rows).sort().values
    if len(chosen) < len(train):
        notes.append(
            f"{len(chosen)} of {len(train)} training records, drawn at random, equally by class, for the probes."
        )
    return train.take(chosen, "probe")
