"""Class means: take a class's own directions out of every layer, in one shot and without data."""

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
    check_removable,
    head_rows_anew,
    keep_class_means,
    known_means,
    project_out,
    untrained_logit,
)
from efface.mechanisms.repair import statistics_anew
from efface.mechanisms.shrink_and_perturb import fresh_weights
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["ClassMeans"]


@dataclass(frozen=True)
class ClassMeans(Method):
    """Project every layer's weights off what only the forgotten classes' mean inputs have: the data-free half.

    u_l = (I - P_R) mu_l,f, unit;  W_l <- W_l (I - s u_l u_l^T);  the head's row of f is drawn anew (see project-distil)

    mu_l,c is the mean input of layer l over class c, P_R projects on the span of the retained classes' means: what the
    layer answers to these does not change. Layers with no more inputs than retained classes stay, and so do biases and
    normalisation. Several classes: one joint projection. The features answer the class with less, not with nothing:
    records of the class end up elsewhere than in a retrained model, which project-distil repairs.

    Source: ours; no publication. The strength was found on MNIST, LeNet-5, classes 0 and 2.

    Attributes:
        strength: s at the first layer.
        strength_last: s at the last layer before the head, linear in between; None: the same everywhere.
        convolutions: Means of whole `patch`es under the kernel, or of the `channel`s, at each of its places.
        means: `kept` at training (`train --keep class-means`; no data is read), or from `data` in one forward pass;
            BatchNorm's statistics are then averaged anew over retained data.
        samples: Most samples per class of that pass.
        logit: Of the new row at the retained classes' mean feature; None: as low as a never trained row comes to lie.
    """

    strength: Annotated[float, Field(ge=0, le=1)] = 0.5
    strength_last: Annotated[float, Field(ge=0, le=1)] | None = None
    convolutions: Convolutions = "patch"
    means: Literal["kept", "data"] = "kept"
    samples: Annotated[int, Field(ge=1)] = 500
    logit: Annotated[float, Field(allow_inf_nan=False)] | None = None

    name: ClassVar[str] = "class-means"
    needs: ClassVar[Needs] = Needs(
        targets=("classes",), forget=True, retain=True, prepared="class means kept at training"
    )
    cost: ClassVar[str] = "O(L d² K) for L layers of d inputs, no data; or one forward pass"
    memory: ClassVar[str] = "3 P, and d numbers per class and layer of d inputs"
    expense: ClassVar[Expense] = "instant"
    source: ClassVar[str] = "ours"
    space: ClassVar[Mapping[str, Axis]] = {
        "strength": Axis(0.2, 1.0),
        "logit": Axis(-25.0, -3.0),
    }
    knob: ClassVar[str] = "strength"

    def reads(self) -> tuple[str, ...]:
        """No data where means were kept."""
        return () if self.means == "kept" else self.needs.reads

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train plainly, then keep the class means."""
        trained = fit(model, split.train, recipe, run)
        return trained, keep_class_means(trained, split, run, weights_sha256(trained.state_dict()))

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if means are missing, the head is not linear or some module cannot be initialised anew."""
        check_removable(artifact, split, self.means, self.convolutions, self.name)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a projected copy."""
        model = run.copied(artifact.model).eval()
        means = known_means(artifact, split, run, self.means, self.name, self.samples)
        fresh = fresh_weights(model, run, "class-means/rows")
        logit = untrained_logit(model, means, split, run) if self.logit is None else self.logit
        project_out(
            model,
            means,
            split,
            run,
            name=self.name,
            strength=self.strength,
            strength_last=self.strength_last,
            convolutions=self.convolutions,
        )
        head_rows_anew(model, fresh, means, split, run, logit)
        if self.means == "data":
            statistics_anew(model, split.retain, artifact.record.recipe, run, self.name)
        return model
