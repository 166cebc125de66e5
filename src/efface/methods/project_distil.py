"""Project, damage, distil: take the class out where it lives, shake the rest if asked, and repair briefly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import weights_sha256
from efface.data import Split
from efface.mechanisms.class_directions import Convolutions
from efface.mechanisms.class_means import LayerMeans
from efface.mechanisms.class_removal import (
    Source,
    check_removable,
    head_rows_anew,
    keep_class_means,
    known_means,
    of_each_class,
    place_rows,
    project_out,
    untrained_logit,
)
from efface.mechanisms.class_transport import Move, transport
from efface.mechanisms.dampening import dampen_by_contrast
from efface.mechanisms.head_refit import refit_head
from efface.mechanisms.repair import Lesson, lesson_loss, masked_teacher, pushed, repair, statistics_anew
from efface.mechanisms.shrink_and_perturb import fresh_weights, shrink_and_perturb
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["ProjectDistil"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ProjectDistil(Method):
    """Take the forgotten classes out of every layer, mix in fresh noise, and distil on retained data.

    transport: W_l <- W_l P_l as class-transport;  means: W_l <- W_l (I - s u_l u_l^T), u_l = (I - P_R) mu_l,f;  then
    theta <- (1 - alpha) theta + alpha N, N fresh; repair on D_r: CE(y) and/or KL from the logit-masked original; head's
    kept rows fitted; row of f <- N_f - kappa m, bias N's.

    Source: ours; docs/research.md has the ablation of every field, and what fixed the defaults.

    Attributes:
        directions: `transport` or `means`; `fisher` shrinks weights by their Fisher contrast instead; `none`.
        weight: Of the transport, as in class-transport; mixture: likewise; head_steps: likewise.
        strength: s at the first layer; strength_last: at the last before the head (None: the same).
        convolutions: Means of whole `patch`es under the kernel, or of `channel`s.
        means: `kept` at training, from `data` in one pass, or `auto`; samples: most per class, wherever data is read.
        alpha: Share of noise at the first module; alpha_last: at the last (None: the same).
        logit: Of the new row at the retained classes' mean feature m; None: as low as a never trained row comes to lie.
        row: Placed `after` the repair or `before` it.
        lesson: `labels`, `teacher`, `both`, or `logits` (squared error).
        epochs: Passes over D_r; None: a fortieth of the original's. optimiser: Of these, with a cosine to zero.
        lr: At its start; None: the original's if that was trained with the same optimiser, else 1e-3.
        push: Weight of the distance to the original's weights; average: share of the last steps that is averaged.
    """

    directions: Literal["transport", "means", "fisher", "none"] = "transport"
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    mixture: Share = 0.7
    head_steps: Annotated[int, Field(ge=0)] = 15
    strength: Share = 1.0
    strength_last: Share | None = None
    convolutions: Convolutions = "patch"
    means: Source = "auto"
    samples: Annotated[int, Field(ge=1)] = 500
    alpha: Share = 0.0
    alpha_last: Share | None = None
    logit: Annotated[float, Field(allow_inf_nan=False)] | None = None
    row: Literal["after", "before"] = "after"
    lesson: Lesson = "labels"
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    push: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0

    name: ClassVar[str] = "project-distil"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True, retain=True)
    cost: ClassVar[str] = "O(K samples) forward, then O(E N_R), a fortieth of training's epochs"
    memory: ClassVar[str] = "5 P + A: Adam and a teacher; d numbers per class and layer"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "ours"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "weight": Axis(0.1, 20.0, log=True),
        "mixture": Axis(0.0, 1.0),
        "alpha": Axis(0.0, 0.5),
        "lr": Axis(0.0001, 0.01, log=True),
    }
    knob: ClassVar[str] = "weight"

    def reads(self) -> tuple[str, ...]:
        """Data to forget is read only for its means, or not at all where training kept them."""
        kept = self.directions == "none" or (self.directions == "means" and self.means == "kept")
        return ("retain",) if kept else ("forget", "retain")

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train plainly, then keep the class means."""
        trained = fit(model, split.train, recipe, run)
        return trained, keep_class_means(trained, split, run, weights_sha256(trained.state_dict()))

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if means are missing, the head is not linear, or some module cannot be initialised anew."""
        projects = self.directions == "means" and (self.strength > 0 or bool(self.strength_last))
        check_removable(artifact, split, self.means, self.convolutions if projects else None, self.name)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the repaired student."""
        model = run.copied(artifact.model).eval()
        fresh = fresh_weights(model, run, "project-distil/noise")
        means = known_means(artifact, split, run, self.means, self.name, self.samples, self.directions == "means")
        logit = untrained_logit(model, means, split, run) if self.logit is None else self.logit
        self.take_out(model, means, split, run)
        shrink_and_perturb(model, fresh, self.alpha, self.alpha_last)
        if self.row == "before":
            head_rows_anew(model, fresh, means, split, run, logit)
        recipe = artifact.record.recipe
        recipe = recipe.but(
            optimiser=self.optimiser,
            lr=self.lr or (recipe.lr if recipe.optimiser == self.optimiser else 1e-3),
            weight_decay=0.0,
            schedule="cosine",
            epochs=recipe.epochs / 40 if self.epochs is None else self.epochs,
        )
        original = run.copied(artifact.model).eval()
        teacher = masked_teacher(original, split.forget_classes)
        loss = pushed(lesson_loss(self.lesson, teacher, smoothing=recipe.label_smoothing), model, original, self.push)
        repair(model, split.retain, recipe, run, stage=self.name, loss=loss, average=self.average)
        if recipe.epochs or self.alpha:
            statistics_anew(model, split.retain, recipe, run, self.name)
        refit_head(model, split, run, self.head_steps, self.name)
        if self.row == "after":
            place_rows(model, fresh, split, run, logit, self.name)
        return model

    def take_out(self, model: nn.Module, means: LayerMeans, split: Split, run: Run) -> None:
        """Take the forgotten classes out of every layer before the head, in place, as `directions` says."""
        if self.directions == "transport":
            transport(model, split, run, Move(self.weight, self.mixture), self.samples, self.name)
        elif self.directions == "fisher":
            draw = run.generator("project-distil/fisher")
            gone, kept = (of_each_class(part, self.samples, draw) for part in (split.forget, split.retain))
            dampen_by_contrast(model, gone, kept, self.strength, run)
        elif self.directions == "means" and (self.strength or self.strength_last):
            project_out(  # one call, as in class-means; pylint: disable=duplicate-code
                model,
                means,
                split,
                run,
                name=self.name,
                strength=self.strength,
                strength_last=self.strength_last,
                convolutions=self.convolutions,
            )
