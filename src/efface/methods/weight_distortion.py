"""Weight distortion: add noise to every weight, then fine-tune on what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.repair import lesson_loss, repair, repair_recipe, statistics_anew
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run

__all__ = ["WeightDistortion"]


@dataclass(frozen=True)
class WeightDistortion(Method):
    """Add Gaussian noise to every trainable parameter, and fine-tune on the retained data.

    theta <- theta + sigma rms(theta_t) n,  n ~ N(0, I), per tensor t;  then min CE(D_r)

    The scale goes with each tensor's own root mean square, so that one sigma suits layers of any fan-in; a tensor of
    zeros gets none.

    Source: the noise-and-fine-tune method of Siddiqui et al., "From Dormant to Deleted", NeurIPS 2025 (arXiv
    2505.22310), read in its abstract only; the scale, sigma, optimiser, rate and length are ours.

    Attributes:
        sigma: Noise in units of each tensor's root mean square.
        epochs: Passes over the retained data.
        optimiser: `adam` or `sgd` (momentum 0.9).
        lr: Learning rate at the start, with a cosine to zero and no weight decay.
    """

    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3

    name: ClassVar[str] = "weight-distortion"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), few epochs"
    memory: ClassVar[str] = "4 P + A: Adam"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2505.22310"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "sigma": Axis(0.05, 1.0),
        "epochs": Axis(0.25, 3.0),
        "lr": Axis(0.0001, 0.01, log=True),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a distorted and repaired copy."""
        model = run.copied(artifact.model)
        generator = run.generator("weight-distortion/noise")
        with torch.no_grad():
            for p in model.parameters():
                noise = torch.randn(p.shape, generator=generator).to(p)  # drawn for frozen ones, too: one stream
                if p.requires_grad:
                    p.add_(noise, alpha=self.sigma * float(p.square().mean().sqrt()))
        recipe = repair_recipe(artifact.record.recipe, self.optimiser, self.lr, self.epochs, momentum=0.9)
        loss = lesson_loss("labels", None, smoothing=recipe.label_smoothing)
        repair(model, split.retain, recipe, run, stage=self.name, loss=loss)
        statistics_anew(model, split.retain, recipe, run, self.name)
        return model
