"""NegGrad+: descend on what is kept while ascending on what is to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.mode import batch_norm_evaluating
from efface.running.run import Run
from efface.training.loop import Endless, fit

__all__ = ["NegGradPlus"]


@dataclass(frozen=True)
class NegGradPlus(Method):
    """Minimise L = beta CE(retain batch) - (1 - beta) CE(forget batch); the retained data drives, the other cycles.

    beta = 1 is fine-tuning and beta = 0 is gradient ascent, as long as the retained data lasts. The second term has
    no bound: with a smaller beta or more epochs, clip the gradients.

    Source: Kurmanji et al., NeurIPS 2023 (arXiv 2302.09880), who use β = 0.95 on small and 0.9999 on large data.

    Attributes:
        epochs: Passes over the retained data.
        lr: Constant learning rate of SGD.
        momentum: Of SGD.
        beta: Weight of the retained data, in [0, 1].
        clip_norm: Largest gradient norm, or None.
        batch_norm: Mode of BatchNorm for the forget batches.
    """

    epochs: Annotated[float, Field(ge=0)] = 5.0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    beta: Annotated[float, Field(ge=0, le=1)] = 0.95
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    batch_norm: Literal["train", "eval"] = "train"

    name: ClassVar[str] = "neg-grad-plus"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(2 E N_R), few epochs"
    memory: ClassVar[str] = "3 P + 2 A: SGD on two batches at once"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2302.09880"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(0.5, 5.0),
        "lr": Axis(1e-05, 0.1, log=True),
        "beta": Axis(0.8, 0.999),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy that was trained on one part and against the other."""
        recipe = artifact.record.recipe.but(
            optimiser="sgd",
            momentum=self.momentum,
            nesterov=False,
            lr=self.lr,
            epochs=self.epochs,
            schedule="constant",
            clip_norm=self.clip_norm,
        )
        others = Endless(split.forget, recipe, run, "neg-grad-plus")

        def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            kept = F.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)
            x_f, y_f = next(others)
            # One sample has no variance to normalise by.
            with batch_norm_evaluating(model, self.batch_norm == "eval" or len(x_f) == 1):
                against = F.cross_entropy(model(x_f), y_f)
            return self.beta * kept - (1 - self.beta) * against

        model = run.copied(artifact.model)
        return fit(model, split.retain, recipe, run, stage="neg-grad-plus", loss=loss, carried=others)
