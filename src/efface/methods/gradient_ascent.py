"""Gradient ascent on the data to forget, also called NegGrad: training backwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.predictions import accuracy_of
from efface.running.run import Run
from efface.training.loop import Trainer

__all__ = ["GradientAscent"]


@dataclass(frozen=True)
class GradientAscent(Method):
    """Maximise the cross-entropy of the data to forget, up to a bound: L = -mean min(CE(f(x), y), c ln K).

    Without a bound the loss falls for ever and takes the whole network with it. A sample whose loss has passed c ln K
    (c = 1 is that of a uniform guess) gives no gradient. Sixteen times per pass the method looks at its accuracy on
    (up to 1,000 samples of) the data to forget, and ends at chance, 1/K.

    Items need fewer passes than classes.

    Source: baseline of Golatkar et al., CVPR 2020 (arXiv 1911.04933).

    Attributes:
        epochs: Passes over the data to forget, at most.
        lr: Constant learning rate of SGD with momentum 0.9.
        bound: The c above, or None.
        stop: End when accuracy on the data to forget is at chance.
        batch_norm: Mode of BatchNorm during the passes.
    """

    epochs: Annotated[int, Field(ge=0)] = 15
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    bound: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1.5
    stop: bool = True
    batch_norm: Literal["eval", "train"] = "eval"

    name: ClassVar[str] = "gradient-ascent"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True)
    cost: ClassVar[str] = "O(E N_F), few epochs"
    memory: ClassVar[str] = "3 P + A: SGD with momentum"
    expense: ClassVar[Expense] = "forget epochs"
    source: ClassVar[str] = "baseline of arXiv 1911.04933"
    space: ClassVar[Mapping[str, Axis]] = {
        "lr": Axis(1e-05, 0.1, log=True),
        "bound": Axis(1.0, 4.0),
    }

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the bounded, negated mean cross-entropy of a batch."""
        z = model(x)
        each = F.cross_entropy(z, y, reduction="none")
        return -(each if self.bound is None else each.clamp(max=self.bound * math.log(z.shape[1]))).mean()

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy pushed away from the data to forget."""
        model = run.copied(artifact.model)
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        part = split.forget
        trainer = Trainer(
            model,
            part,
            recipe,
            run,
            stage="gradient-ascent",
            loss=self.loss,
            freeze_batch_norm=self.batch_norm == "eval",
        )
        chance = 1 / len(split.data.classes)
        total = self.epochs * trainer.steps_per_epoch
        every = max(1, trainer.steps_per_epoch // 16)
        watched = part.sample(1000, run.generator("gradient-ascent/watched"))
        for start in run.track(range(0, total, every), "gradient-ascent", -(-total // every)):
            trainer.advance(min(every, total - start))
            forget_accuracy = accuracy_of(model, watched)
            run.history.add("gradient-ascent/accuracy", step=trainer.step, forget=forget_accuracy)
            if self.stop and forget_accuracy <= chance:
                run.note(f"gradient-ascent stopped after {trainer.step} steps: forget accuracy {forget_accuracy:.3f}")
                break
        return model.eval()
