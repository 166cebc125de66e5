"""UNDO: suppress the answers, damage the weights, and distil the suppressed answers into what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.mechanisms.class_means import LayerMeans
from efface.mechanisms.class_removal import check_removable, head_rows_anew, known_means, untrained_logit
from efface.mechanisms.repair import Lesson, lesson_loss, masked_teacher, pushed, repair, repair_recipe, statistics_anew
from efface.mechanisms.shrink_and_perturb import Noise, fresh_weights, redraw_rows, require_reset, shrink_and_perturb
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.predictions import accuracy_of
from efface.running.run import Run

__all__ = ["Undo"]

MASK = "mask"
_SAMPLES = 500  # per retained class, for the mean feature that a placed row is set against


@dataclass(frozen=True)
class Undo(Method):
    """Unlearn, noise, distil: T suppressed, S <- (1 - alpha) theta_T + alpha beta N, then teach S what T answers.

    min_S KL(softmax(T(x)/t) || softmax(S(x)/t)) [+ CE(y)] over retained data; alpha = 0 is plain distillation, alpha =
    beta = 1 a new network.

    Source: Lee et al., "Distillation Robustifies Unlearning", NeurIPS 2025 (arXiv 2506.06278). Like its code:
    noise=xavier, beta=0.1, alpha .1 to .8, optimiser=adamw, lesson=teacher, distil_on=all, row=kept. Ours, the
    default: N is the modules' own initialisation, labels too, retained data alone, the forgotten rows of the head drawn
    anew and placed, their biases not lowered, which would name the class.

    Attributes:
        suppress: What makes T: `mask` (forgotten classes' logits at -inf; items: the original), `none`, or a method.
        suppress_settings: Hyper-parameters of that method.
        alpha: Share of noise at the first module; alpha_last: at the last one (None: the same).
        beta: Scale of the noise; noise: `initial`, or `xavier` for matrices and 0 for vectors.
        row: The forgotten rows: `placed` where never trained ones lie (reads labels), `fresh` as N has them, or `kept`.
        lesson: `teacher`, `labels`, `both`, or `logits` (squared error of the teacher's finite logits).
        distil_on: `retain`, or `all`: the data to forget, too, under T's answers.
        temperature: t.
        epochs: Most passes; None: three tenths of the original's.
        optimiser: Of the distillation; lr: at its start, with a cosine to zero and no weight decay.
        within: Stop when held-out accuracy on what is kept is this close to T's (share); None never stops.
        push: Weight of the distance to the original's weights in the loss, rms.
    """

    suppress: str = MASK
    suppress_settings: dict[str, Any] = Field(default_factory=dict)
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.45
    alpha_last: Annotated[float, Field(ge=0, le=1)] | None = None
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    noise: Noise = "initial"
    row: Literal["placed", "fresh", "kept"] = "placed"
    lesson: Lesson = "both"
    distil_on: Literal["retain", "all"] = "retain"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2e-3
    within: Annotated[float, Field(ge=0, lt=1)] | None = None
    push: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    name: ClassVar[str] = "undo"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True, validation=True)
    cost: ClassVar[str] = "O(E N_R), three tenths of training's epochs, and the suppressing method"
    memory: ClassVar[str] = "5 P + A: Adam and a teacher"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "UNDO, arXiv 2506.06278"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "alpha": Axis(0.1, 0.9),
        "lr": Axis(0.0001, 0.01, log=True),
    }

    def reads(self) -> tuple[str, ...]:
        """Retained data; what the suppressing method reads; held-out data to stop; all of it where distilled on."""
        method = self._suppressor()
        own = {"retain", *(["forget"] if self.distil_on == "all" else []), *(["validation"] if self.within else [])}
        wanted = own | set(method.reads() if method else ())
        return tuple(k for k in self.needs.reads if k in wanted)

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if the noise cannot be drawn, nothing is held out to stop by, or the suppressing method refuses."""
        if self.distil_on == "all" and self.lesson in {"labels", "both"}:
            raise InputError("undo would teach the labels of the data to forget; distil_on=all needs lesson=teacher")
        if self.noise == "initial" or (self.row != "kept" and split.forget_classes):
            require_reset(artifact.model, self.name)
        if self.row == "placed" and split.forget_classes:
            check_removable(artifact, split, "data", None, self.name)
        if self.within is not None and len(split.validation_retain if split.forget_classes else split.validation) == 0:
            raise InputError("undo stops by held-out accuracy, but nothing was held out; leave `within` at none")
        method = self._suppressor()
        if method is not None:
            assert split.request is not None
            if method.name == self.name or split.request.target not in method.needs.targets:
                raise InputError(f"undo cannot suppress with {method.name}, which does not forget this; use mask")
            method.check(artifact, split)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the student."""
        suppressed = self._suppressed(artifact, split, run)
        teacher = masked_teacher(suppressed, split.forget_classes if self.suppress == MASK else ())
        model = run.copied(suppressed).eval()
        means = None
        if self.row == "placed" and split.forget_classes:
            means = known_means(artifact, split, run, "data", self.name, _SAMPLES, forget=False)
        self.damage(model, split, run, artifact.model, means)
        recipe = artifact.record.recipe
        epochs = 0.3 * recipe.epochs if self.epochs is None else self.epochs
        recipe = repair_recipe(recipe, self.optimiser, self.lr, epochs)
        loss = lesson_loss(self.lesson, teacher, self.temperature, recipe.label_smoothing)
        loss = pushed(loss, model, artifact.model, self.push)
        part = split.train if self.distil_on == "all" else split.retain
        enough = None if self.within is None else self._enough(split, run, suppressed)
        repair(model, part, recipe, run, stage=self.name, loss=loss, enough=enough)
        if recipe.epochs or self.alpha:
            statistics_anew(model, split.retain, recipe, run, self.name)
        return model

    def damage(
        self, model: nn.Module, split: Split, run: Run, original: nn.Module, means: LayerMeans | None = None
    ) -> None:
        """Mix fresh weights into the student, in place, and draw the forgotten rows anew."""
        fresh = fresh_weights(model, run, "undo/noise", self.noise)
        shrink_and_perturb(model, fresh, self.alpha, self.alpha_last, self.beta)
        if self.row == "kept" or not split.forget_classes:
            return
        rows = fresh if self.noise == "initial" else fresh_weights(model, run, "undo/rows")
        if means is None:
            redraw_rows(model, rows, split.forget_classes, split.data.input_shape)
        else:
            head_rows_anew(model, rows, means, split, run, untrained_logit(original, means, split, run))

    def _suppressor(self) -> Method | None:
        if self.suppress in {MASK, "none"}:
            return None
        from efface.methods.catalogue import make  # which imports this file

        return make(self.suppress, self.suppress_settings)

    def _suppressed(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        method = self._suppressor()
        if method is None:
            return run.copied(artifact.model).eval()
        part = run.child()
        made = method.forget(artifact, split, part).eval()
        for note in part.notes:
            run.note(note)
        return made

    def _enough(self, split: Split, run: Run, suppressed: nn.Module) -> Callable[[nn.Module], bool]:
        """Return whether a student's held-out accuracy is within the tolerance of the teacher's."""
        held_out = split.validation_retain if split.forget_classes else split.validation
        wanted = accuracy_of(suppressed, held_out)

        def enough(student: nn.Module) -> bool:
            reached = accuracy_of(student, held_out)
            run.history.add("undo/held out", accuracy=reached, teacher=wanted)
            assert self.within is not None
            return reached >= wanted - self.within

        return enough
