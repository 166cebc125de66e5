"""Fine-tuning on what is kept: the simplest thing one could do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["FineTune"]


@dataclass(frozen=True)
class FineTune(Method):
    """Continue training on the retained data alone, minimising CE(D_r), and hope that the rest fades.

    Source: baseline of Golatkar et al., CVPR 2020 (arXiv 1911.04933). Defaults: lr and epochs as commonly used for it
    (SCRUB, SalUn: 0.01; we take 1 epoch as the cheap reference row). The artifact's recipe gives batch size,
    augmentation and weight decay.

    Attributes:
        epochs: Passes over the retained data.
        lr: Constant learning rate of SGD with momentum 0.9.
    """

    epochs: Annotated[float, Field(ge=0)] = 1.0
    lr: Annotated[float, Field(ge=0)] = 0.01

    name: ClassVar[str] = "fine-tune"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), few epochs"
    memory: ClassVar[str] = "3 P + A: SGD with momentum"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "baseline of arXiv 1911.04933"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(0.5, 5.0),
        "lr": Axis(0.0001, 0.1, log=True),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy trained for a few more epochs on the retained data."""
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        return fit(run.copied(artifact.model), split.retain, recipe, run, stage="fine-tune")
