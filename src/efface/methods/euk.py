"""EU-k: exact unlearning of the last k layers."""

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
from efface.models.reset import reset
from efface.running.run import Run

__all__ = ["EUk"]


@dataclass(frozen=True)
class EUk(Method):
    """Initialise the last k layers anew and train these on the retained data, with the artifact's own recipe.

    Exact for these layers given the others; whatever the frozen layers know stays.

    Source: Goel, Prabhu, Kumaraguru 2022 (arXiv 2201.06640).

    Attributes:
        k: Number of weight layers to train, counted from the end; normalisation goes with the layer before it.
        epochs: Passes over the retained data; those of the original's recipe by default.
        include_head: Count, reset and train the head; otherwise it stays as it is.
    """

    k: Annotated[int, Field(ge=1)] = 2
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    include_head: bool = True

    name: ClassVar[str] = "eu-k"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), gradients of k layers"
    memory: ClassVar[str] = "P + 2 P_k + A, P_k parameters of the last k layers"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2201.06640"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "k": Axis(1, 6),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the model has fewer than k layers, or one of them cannot be initialised anew."""
        for name in last_layers(artifact.model, self.k, split.data.input_shape, self.include_head):
            reset(artifact.model.get_submodule(name), 0)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose last k layers were trained from new weights on the retained data."""
        model = run.copied(artifact.model)
        names = last_layers(model, self.k, split.data.input_shape, self.include_head)
        generator = run.generator("eu-k/initial weights")
        for name in names:
            layer = model.get_submodule(name)
            if all(p.requires_grad for p in layer.parameters(recurse=False)):
                layer.load_state_dict(reset(layer, generator).state_dict())
        recipe = artifact.record.recipe
        if self.epochs is not None:
            recipe = recipe.but(epochs=self.epochs)
        return fit_only(model, names, split.retain, recipe, run, stage="eu-k")
