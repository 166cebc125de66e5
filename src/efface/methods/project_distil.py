"""Project, damage, distil: take the class out where it lives, shake the rest a little, and repair briefly."""

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
from efface.mechanisms.class_removal import (
    Source,
    check_removable,
    head_rows_anew,
    keep_class_means,
    known_means,
    of_each_class,
    project_out,
    untrained_logit,
)
from efface.mechanisms.dampening import dampen_by_contrast
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
    """Project weights off the forgotten classes' own directions, mix in fresh noise, and distil on retained data.

    W_l <- W_l (I - s u_l u_l^T), u_l = (I - P_R) mu_l,f (class-means);  theta <- (1 - alpha) theta + alpha N, N fresh;
    head's row of f <- N_f - kappa m, bias N's; repair on D_r: CE(y) and/or KL from the logit-masked original.

    Source: ours; docs/research.md has the ablation of every field, and what fixed the defaults.

    Attributes:
        directions: `means`; `fisher` shrinks weights by their Fisher contrast instead; `none`.
        strength: s at the first layer; strength_last: at the last before the head (None: the same).
        convolutions: Means of whole `patch`es under the kernel, or of `channel`s.
        means: `kept` at training, from `data` in one forward pass, or `auto`: kept if taken of these weights.
        samples: Most samples per class of that pass (and of the Fisher contrast's).
        alpha: Share of noise at the first module; alpha_last: at the last (None: the same).
        logit: Of the new row at the retained classes' mean feature m; None: as low as a never trained row comes to lie.
        lesson: `labels`, `teacher`, `both`, or `logits` (squared error).
        epochs: Passes over D_r; None: a twentieth of the original's.
        optimiser: Of the repair, with a cosine to zero and no weight decay.
        lr: At its start; None: the original's if that was trained with the same optimiser, else 1e-3.
        push: Weight of the distance to the original's weights in the loss, rms.
        average: Share of the last steps whose weights are averaged.
    """

    directions: Literal["means", "fisher", "none"] = "means"
    strength: Share = 1.0
    strength_last: Share | None = None
    convolutions: Convolutions = "patch"
    means: Source = "auto"
    samples: Annotated[int, Field(ge=1)] = 500
    alpha: Share = 0.1
    alpha_last: Share | None = None
    logit: Annotated[float, Field(allow_inf_nan=False)] | None = None
    lesson: Lesson = "both"
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    push: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0

    name: ClassVar[str] = "project-distil"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True, retain=True)
    cost: ClassVar[str] = "O(K samples) forward, then O(E N_R), a twentieth of training's epochs"
    memory: ClassVar[str] = "5 P + A: Adam and a teacher; d numbers per class and layer"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "ours"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "strength": Axis(0.0, 1.0),
        "alpha": Axis(0.0, 0.5),
        "lr": Axis(0.0001, 0.01, log=True),
        "logit": Axis(-25.0, -3.0),
    }

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
        if self.directions == "fisher":
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
        shrink_and_perturb(model, fresh, self.alpha, self.alpha_last)
        head_rows_anew(model, fresh, means, split, run, logit)
        del fresh  # as much memory as the model, which the repair will want
        recipe = artifact.record.recipe
        recipe = recipe.but(
            optimiser=self.optimiser,
            lr=self.lr or (recipe.lr if recipe.optimiser == self.optimiser else 1e-3),
            weight_decay=0.0,
            schedule="cosine",
            epochs=recipe.epochs / 20 if self.epochs is None else self.epochs,
        )
        original = run.copied(artifact.model).eval()
        teacher = masked_teacher(original, split.forget_classes)
        loss = pushed(lesson_loss(self.lesson, teacher, smoothing=recipe.label_smoothing), model, original, self.push)
        repair(model, split.retain, recipe, run, stage=self.name, loss=loss, average=self.average)
        if recipe.epochs or self.alpha:
            statistics_anew(model, split.retain, recipe, run, self.name)
        return model
