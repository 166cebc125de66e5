"""CF-k: catastrophic forgetting in the last k layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.last_layers import fit_only, last_layers
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run

__all__ = ["CFk"]


@dataclass(frozen=True)
class CFk(Method):
    """Freeze all but the last k layers, and fine-tune these on the retained data: min CE(D_r) over the last k layers.

    Whatever the frozen layers know stays: a baseline that should fail feature-level tests.

    Source: Goel, Prabhu, Kumaraguru 2022 (arXiv 2201.06640).

    Attributes:
        k: Number of weight layers to train, counted from the end; normalisation goes with the layer before it.
        epochs: Passes over the retained data.
        lr: Constant learning rate of SGD with momentum 0.9.
        include_head: Count and train the head; otherwise it stays as it is.
    """

    k: Annotated[int, Field(ge=1)] = 2
    epochs: Annotated[float, Field(ge=0)] = 10.0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    include_head: bool = True

    name: ClassVar[str] = "cf-k"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), few epochs, gradients of k layers"
    memory: ClassVar[str] = "P + 2 P_k + A, P_k parameters of the last k layers"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2201.06640"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "k": Axis(1, 6),
        "epochs": Axis(1.0, 10.0),
        "lr": Axis(0.0001, 0.1, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the model has fewer than k layers, or no linear head to leave out."""
        last_layers(artifact.model, self.k, split.data.input_shape, self.include_head)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose last k layers were trained on the retained data."""
        model = run.copied(artifact.model)
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        names = last_layers(model, self.k, split.data.input_shape, self.include_head)
        return fit_only(model, names, split.retain, recipe, run, stage="cf-k")
