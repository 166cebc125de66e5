"""Weight distance: fine-tune on what is kept while leading the weights away from the original's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.repair import lesson_loss, pushed, repair, repair_recipe
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run

__all__ = ["WeightDistance"]


@dataclass(frozen=True)
class WeightDistance(Method):
    """Fine-tune on the retained data, less a reward for the distance from the original's weights.

    min  CE(D_r) - a rms(theta - theta_o),    rms(v) = sqrt(mean v_i^2) over all trainable parameters

    A model near the original in weights is brought back by fine-tuning on retained data alone; a retrained one is far.
    The reward has no upper bound: what keeps it in check is the length of the training and the cross-entropy.

    Source: the weight distance regulariser of Siddiqui et al., "From Dormant to Deleted", NeurIPS 2025 (arXiv
    2505.22310), read in its abstract only; form and a = 1 as in our notes, optimiser, rate and length are ours.

    Attributes:
        distance: a.
        epochs: Passes over the retained data.
        optimiser: `adam` or `sgd` (momentum 0.9).
        lr: Learning rate at the start, with a cosine to zero; no weight decay, which would pull elsewhere.
    """

    distance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3

    name: ClassVar[str] = "weight-distance"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), few epochs"
    memory: ClassVar[str] = "5 P + A: Adam and the original's weights"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2505.22310"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "distance": Axis(0.01, 10.0, log=True),
        "epochs": Axis(0.25, 3.0),
        "lr": Axis(0.0001, 0.01, log=True),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy that was led away."""
        model = run.copied(artifact.model)
        recipe = repair_recipe(artifact.record.recipe, self.optimiser, self.lr, self.epochs, momentum=0.9)
        loss = pushed(
            lesson_loss("labels", None, smoothing=recipe.label_smoothing), model, artifact.model, self.distance
        )
        return repair(model, split.retain, recipe, run, stage=self.name, loss=loss)
