"""What a folder of references is filled with: each job makes one ordinary artifact from the original and a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.errors import InputError, UnsupportedRequestError
from efface.methods.applying import apply, check, prepare
from efface.methods.catalogue import make
from efface.methods.retrain import Retrain
from efface.request import Request
from efface.running.run import Run
from efface.words import counted

__all__ = ["Job", "Repeat", "Retraining", "Shadow"]


@dataclass(frozen=True)
class Job(ABC):
    """One model to be made.

    Attributes:
        kind: What the folder's name starts with.
        number: Position in its series.
        seed: Seed of everything that is drawn.
    """

    number: int
    seed: int
    kind: ClassVar[str]

    @property
    def folder(self) -> str:
        """Name of the artifact's folder, e.g. `reference-003`."""
        return f"{self.series}-{self.number:03d}"

    @property
    def series(self) -> str:
        """The name without the number; jobs of one series differ by their seeds only."""
        return self.kind

    def check(self, original: Artifact, split: Split) -> None:  # noqa: B027 - a retraining has nothing to check
        """Raise an `InputError` if the job cannot be done; called before any work."""

    @abstractmethod
    def make(self, original: Artifact, split: Split, run: Run) -> Artifact:
        """Do the job.

        Args:
            original: The model that the request is addressed to.
            split: The data under the request.
            run: With this job's seed.
        """


@dataclass(frozen=True)
class Retraining(Job):
    """Retrain without the request's data: a reference."""

    kind: ClassVar[str] = "reference"

    def make(self, original: Artifact, split: Split, run: Run) -> Artifact:
        """Retrain; see `efface.methods.retrain.Retrain`."""
        return apply(Retrain(), Case(original, split, run))


@dataclass(frozen=True)
class _Unlearning(Job):
    """A job that ends with an unlearning method.

    Attributes:
        method: Its name.
        settings: Its hyper-parameters.
    """

    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def series(self) -> str:
        """Kind and method."""
        return f"{self.kind}-{self.method}"


@dataclass(frozen=True)
class Repeat(_Unlearning):
    """Train with the data as the original was trained, from other weights, and unlearn the request.

    Many of them beside as many references show what a method does, rather than one run of it: forgetting quality F,
    KLoM, U-LiRA.
    """

    kind: ClassVar[str] = "unlearned"

    def check(self, original: Artifact, split: Split) -> None:
        """See `Job.check`."""
        check(make(self.method, self.settings), original, split)
        if original.record.earlier_requests:
            raise InputError(
                "the model has already served requests; runs of its method can be repeated from the first artifact of "
                "the chain only"
            )

    def make(self, original: Artifact, split: Split, run: Run) -> Artifact:
        """Train as each training step of the original's record says, then forget."""
        whole = Split.of(split.data, None, split.validation_fraction, split.seed)
        steps = [s for s in original.record.chain if s.action == "train"] or [original.record]
        model = Retrain.fresh(original.model, run)
        trained: Artifact | None = None
        for i, step in enumerate(steps):
            method = None if step.method in {"plain", "none"} else make(step.method, step.settings)
            part = run.child(run.number(f"repeat/training {i}"))
            spec = original.record.model
            trained = prepare(method, model, whole, step.recipe, part, spec=spec, parent=trained, keep=step.kept)
            model = trained.model
        assert trained is not None
        forgetting = run.child(run.number("repeat/forgetting"))
        return apply(make(self.method, self.settings), Case(trained, split, forgetting))


@dataclass(frozen=True)
class Shadow(_Unlearning):
    """Retrain without some of the records, then unlearn some others: a shadow model in RULI's design.

    Attributes:
        out: Training items that the model never sees.
        unlearned: Training items that it sees and unlearns.
    """

    kind: ClassVar[str] = "shadow"
    out: tuple[int, ...] = ()
    unlearned: tuple[int, ...] = ()

    def check(self, original: Artifact, split: Split) -> None:
        """See `Job.check`."""
        method = make(self.method, self.settings)
        if "items" not in method.needs.targets or method.needs.prepared:
            raise UnsupportedRequestError(
                f"shadow models unlearn some of the records, from a plainly trained model; {method.name} "
                + (f"needs {method.needs.prepared}" if method.needs.prepared else "forgets whole classes only")
                + ". Use repeats of the whole request instead"
            )
        if not self.out or not self.unlearned:
            raise InputError(
                f"{counted(len(split.forget), 'record is', 'records are')} too few to be dealt out in thirds to "
                "shadow models"
            )

    def make(self, original: Artifact, split: Split, run: Run) -> Artifact:
        """Retrain without `out`, then forget `unlearned`: two ordinary requests, so the record says all."""
        earlier = original.record.earlier_requests
        absent, asked = (Request(items=i, reason="U-LiRA") for i in (self.out, self.unlearned))
        held_out = (split.validation_fraction, split.seed)
        first = apply(Retrain(), Case(original, Split.of(split.data, absent, *held_out, earlier), run))
        second = Split.of(split.data, asked, *held_out, (*earlier, absent))
        forgetting = run.child(run.number("shadow/forgetting"))
        return apply(make(self.method, self.settings), Case(first, second, forgetting))
