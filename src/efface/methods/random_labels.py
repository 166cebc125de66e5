"""Random labels: teach the data to forget wrong answers, among the retained data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.relabelling import LabelSet, Order, relabelled
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["RandomLabels"]


@dataclass(frozen=True)
class RandomLabels(Method):
    """Minimise CE on the data to forget under uniform random labels y' and on the retained data under its own.

    Four variants are in use: y' drawn once or anew in each epoch, over all classes or leaving out the true one. Fresh
    labels drive the data to forget towards a uniform prediction, fixed ones make the network memorise a wrong answer;
    over all classes, 1/K of the data is taught its true label again. Accuracy on forgotten items *below* that of a
    retrained model is a failure, not a success.

    Source: Golatkar et al., CVPR 2020 (arXiv 1911.04933); Graves et al., AAAI 2021 (arXiv 2010.10981).

    Attributes:
        epochs: Passes over both parts.
        lr: Constant learning rate.
        optimiser: `sgd` with momentum 0.9, or `adam`.
        fresh: Draw labels anew in each epoch.
        over: `all` classes, all `others` than the true one, or those of them that are `kept`.
        order: `mixed` together, or relabelled data before retained data in each epoch (`forget-first`).
        retain_share: Share of the retained data that is used, in [0, 1]; at 0 it is not read.
        freeze_batch_norm: Keep BatchNorm's statistics.
    """

    epochs: Annotated[float, Field(ge=0)] = 10.0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    optimiser: Literal["sgd", "adam"] = "sgd"
    fresh: bool = True
    over: LabelSet = "kept"
    order: Order = "mixed"
    retain_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    freeze_batch_norm: bool = False

    name: ClassVar[str] = "random-labels"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(E (N_F + N_R)), few epochs"
    memory: ClassVar[str] = "3 P + A: SGD with momentum"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 1911.04933; arXiv 2010.10981"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(1.0, 10.0),
        "lr": Axis(1e-05, 0.1, log=True),
    }

    def reads(self) -> tuple[str, ...]:
        """Retained data only if a share of it is used."""
        return ("forget", "retain") if self.retain_share > 0 else ("forget",)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy trained on random labels."""
        recipe = artifact.record.recipe.but(
            optimiser=self.optimiser, momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        part = relabelled(split, run, self.over, self.fresh, self.order, self.retain_share)
        return fit(
            run.copied(artifact.model),
            part,
            recipe,
            run,
            stage="random labels",
            freeze_batch_norm=self.freeze_batch_norm,
            carried=part.draws,
        )
