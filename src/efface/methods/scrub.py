"""SCRUB: away from the teacher on what is to be forgotten, towards it on the rest; and the rewind, SCRUB+R."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.data import Part, Split
from efface.data.augment import Augment
from efface.errors import InputError
from efface.mechanisms.batch_size import fitting_batch
from efface.mechanisms.distillation import kl
from efface.mechanisms.forget_only import require_more_than_one
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.batch_norm import batch_norms
from efface.models.predictions import accuracy_of, logits_of
from efface.running.run import Run
from efface.training.loop import Trainer

__all__ = ["SCRUB", "rewound"]

_WATCHED = 1000  # forget samples on which a max pass looks whether it has reached chance
_LOOKS = 16  # at most about so often per pass


def rewound(errors: list[float], reference: float) -> int:
    """Return the index of the error closest to the reference, the earliest of several."""
    return min(range(len(errors)), key=lambda e: (abs(errors[e] - reference), e))


@dataclass(frozen=True)
class SCRUB(Method):
    """Alternate passes that leave the teacher on the forget data with passes that stay with it on the retained data.

    d(x)     = T^2 KL(softmax(t / T) || softmax(s / T)), teacher t = the frozen original, student s starts as its copy
    max step: L = - d(x_f)                              over D_f, in the first `forget_epochs` epochs
    min step: L = alpha d(x_r) + gamma CE(s(x_r), y)    over D_r, after it, in every epoch, same optimiser

    With `rewind` (SCRUB+R) the result is the epoch whose error on D_f is closest to the final model's on held-out
    *validation* images in the class mix of D_f; the original counts as epoch 0. For classes rewinding does nothing.
    Source: Kurmanji et al., NeurIPS 2023, arXiv 2302.09880, algorithms 1 and 2.

    Attributes:
        forget_epochs: Epochs that begin with a max pass (the paper's msteps).
        epochs: All epochs, each with a min pass.
        optimiser: `sgd` (momentum 0.9) or `adam`, shared by both kinds of steps.
        lr: Learning rate; weight_decay: L2 penalty.
        milestones: The rate drops to a tenth after each of these epochs.
        gamma: Weight of the cross-entropy on D_r; alpha: of the distance on D_r.
        temperature: T.
        batch_size: Samples per min step; forget_batch: per max step.
        retain_steps: On small data batches shrink (not below 8) until a min pass has this many steps; 0: never.
        forget_steps: The same for max passes.
        warm_up: Whether a min pass comes first; `auto`: where the model has neither BatchNorm nor dropout.
        freeze_batch_norm: Keep BatchNorm's running statistics; otherwise max passes show it forget data alone.
        stop_at_chance: Ours, recommended for classes: a max pass ends when accuracy on D_f is at chance, 1/K.
        rewind: Return the epoch with the reference error instead of the last.
    """

    forget_epochs: Annotated[int, Field(ge=0)] = 2
    epochs: Annotated[int, Field(ge=1)] = 3
    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Field(ge=0)] = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = (3, 5, 9)
    gamma: Annotated[float, Field(ge=0)] = 0.99
    alpha: Annotated[float, Field(ge=0)] = 0.001
    temperature: Annotated[float, Field(gt=0)] = 4.0
    batch_size: Annotated[int, Field(ge=2)] = 256
    forget_batch: Annotated[int, Field(ge=1)] = 512
    retain_steps: Annotated[int, Field(ge=0)] = 100
    forget_steps: Annotated[int, Field(ge=0)] = 10
    warm_up: Literal["auto", "always", "never"] = "auto"
    freeze_batch_norm: bool = False
    stop_at_chance: bool = False
    rewind: bool = False

    name: ClassVar[str] = "scrub"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True, validation=True)
    cost: ClassVar[str] = "O(m N_F + E N_R), 1.3 forwards each"
    memory: ClassVar[str] = "5 P + 2 A: SGD, teacher, first state; to rewind, P more per epoch"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "SCRUB and SCRUB+R, arXiv 2302.09880"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "forget_epochs": Axis(1, 4),
        "epochs": Axis(2, 8),
        "lr": Axis(1e-05, 0.01, log=True),
        "alpha": Axis(0.0001, 1.0, log=True),
        "stop_at_chance": Axis(choices=(False, True)),
    }

    def reads(self) -> tuple[str, ...]:
        """Validation data is read only to rewind."""
        return self.needs.reads if self.rewind else ("forget", "retain")

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if a setting or the data makes the passes meaningless."""
        if self.forget_epochs >= self.epochs:
            raise InputError(
                f"scrub: forget_epochs {self.forget_epochs} must be below epochs {self.epochs}: ending on a max step "
                "ruins the model; raise epochs"
            )
        require_more_than_one(self.name, artifact.model, split.forget, self.freeze_batch_norm, "fine-tune")
        if self.rewind and not bool(torch.isin(split.validation.labels, split.forget.labels).any()):
            raise InputError(
                "scrub: rewind compares with held-out images of the classes to forget, and there are none; train with "
                "a validation fraction, set rewind off, or use fine-tune"
            )

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the student after the last epoch, or the rewound one."""
        teacher, student = run.copied(artifact.model).eval(), run.copied(artifact.model)
        forget, retain = split.forget, split.retain
        answers = logits_of(teacher, forget).to(run.device)
        warm = int(self.warm_up == "always" or (self.warm_up == "auto" and not _stochastic(teacher)))

        def minimum(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            found = model(x)
            loss = self.gamma * F.cross_entropy(found, y)
            if self.alpha == 0:
                return loss
            with torch.no_grad():
                target = teacher(x)
            return loss + self.alpha * self.distance(target, found)

        def maximum(model: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
            return -self.distance(answers[positions], model(x))

        recipe = artifact.record.recipe.but(
            optimiser=self.optimiser,
            momentum=0.9,
            nesterov=False,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule="step",
            milestones=tuple(m + warm for m in self.milestones),
            gamma=0.1,
            epochs=self.epochs + warm,
            batch_size=fitting_batch(len(retain), self.batch_size, self.retain_steps),
            clip_norm=None,
        )
        away = recipe.but(
            batch_size=fitting_batch(len(forget), self.forget_batch, self.forget_steps), augment=Augment(), epochs=1
        )
        minimise = Trainer(
            student, retain, recipe, run, stage="scrub/min", loss=minimum, freeze_batch_norm=self.freeze_batch_norm
        )
        maximise = Trainer(
            student,
            forget.relabelled(torch.arange(len(forget))),  # the "label" finds the teacher's answer
            away,
            run,
            stage="scrub/max",
            loss=maximum,
            freeze_batch_norm=self.freeze_batch_norm,
        )
        maximise.share_optimiser(minimise)
        watched = forget.sample(_WATCHED, run.generator("scrub/watched"))
        kept, errors = [_state(teacher)], [1 - accuracy_of(teacher, forget)] if self.rewind else []
        for epoch in run.track(range(1 - warm, self.epochs + 1), "scrub", self.epochs + warm):
            if 1 <= epoch <= self.forget_epochs:
                self._ascend(maximise, student, watched, split, run)
            minimise.advance(minimise.steps_per_epoch)
            if self.rewind and epoch >= 1:
                kept.append(_state(student))
                errors.append(1 - accuracy_of(student, forget))
        if self.rewind:
            reference = self._reference(student, split, run)
            chosen = rewound(errors, reference)
            student.load_state_dict(kept[chosen])
            named = {f"error {e}": error for e, error in enumerate(errors)}
            run.history.add("scrub/rewind", reference=reference, epoch=chosen, **named)
            run.note(
                f"scrub: rewound to epoch {chosen} of {self.epochs}: its forget error {errors[chosen]:.3f} is closest "
                f"to the held-out {reference:.3f}"
            )
        return student

    def _ascend(self, maximise: Trainer, student: nn.Module, watched: Part, split: Split, run: Run) -> None:
        """Do one max pass; with `stop_at_chance` it ends at the first of some 16 looks to find accuracy at chance."""
        if not self.stop_at_chance:
            maximise.advance(maximise.steps_per_epoch)
            return
        stretch = max(1, maximise.steps_per_epoch // _LOOKS)
        for start in range(0, maximise.steps_per_epoch, stretch):
            if accuracy_of(student, watched) <= 1 / len(split.data.classes):
                run.note(f"scrub: a max pass ended at chance after {start} of {maximise.steps_per_epoch} steps")
                return
            maximise.advance(min(stretch, maximise.steps_per_epoch - start))

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Return the batch mean of T^2 KL(softmax(t / T) || softmax(s / T)) for logits (B, K)."""
        return self.temperature**2 * kl(teacher, student, self.temperature).mean()

    def _reference(self, student: nn.Module, split: Split, run: Run) -> float:
        """Return the error on held-out images, classes weighted as in the forget data."""
        held_out = split.validation
        total = weight = 0.0
        read = 0
        for c, count in enumerate(torch.bincount(split.forget.labels).tolist()):
            part = held_out.of_class(c)
            if count and len(part):
                total += count * (1 - accuracy_of(student, part))
                weight += count
                read += len(part)
        if read < 100:
            run.note(f"scrub: the rewind's reference rests on {read} held-out images; below 100 it is mostly noise")
        return total / weight


def _stochastic(model: nn.Module) -> bool:
    """Say whether train mode alone makes a model differ from itself in eval mode."""
    return bool(batch_norms(model)) or any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
