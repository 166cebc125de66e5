"""CT: transpose every convolution kernel, then repair on what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["CT", "transpose_kernels"]


@dataclass(frozen=True)
class CT(Method):
    """Mirror every convolution kernel on its diagonal, W[o,i,a,b] ← W[o,i,b,a], then train on the kept data.

    Strong but structured damage, and a good restart for repair: CE on the kept data by SGD with momentum 0.9 and a
    cosine schedule. The forget data is not read, so nothing is aimed at: it is fine-tuning from another start. 1 x 1
    kernels do not change, so nets made of them are hardly damaged; BatchNorm statistics are wrong until repaired.

    Source: fifth place of the NeurIPS 2023 unlearning challenge (arXiv 2406.09073); settings of Deep Unlearn
    (arXiv 2410.01276).

    Attributes:
        epochs: Passes over the kept data (published: 3).
        lr: Learning rate at the start (published: 1e-3).
        weight_decay: Published: 5e-4.
        batch_size: Published: 64.
    """

    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3.0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    batch_size: Annotated[int, Field(ge=1)] = 64

    name: ClassVar[str] = "ct"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    moves_batch_norm: ClassVar[bool] = True
    cost: ClassVar[str] = "O(3 N_R)"
    memory: ClassVar[str] = "3 P + A: SGD with momentum"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "NeurIPS 2023 challenge, 5th place, arXiv 2406.09073"
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(1.0, 5.0),
        "lr": Axis(1e-05, 0.01, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if no kernel would change."""
        if not _kernels(artifact.model):
            raise InputError(
                "ct transposes convolution kernels, but this model has no trainable square kernel larger than 1 x 1; "
                "use fine-tune, cf-k or ssd"
            )

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a transposed and repaired copy."""
        model = run.copied(artifact.model)
        transpose_kernels(model)
        recipe = artifact.record.recipe.but(
            optimiser="sgd",
            momentum=0.9,
            nesterov=False,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule="cosine",
            epochs=self.epochs,
            batch_size=self.batch_size,
        )
        return fit(model, split.retain, recipe, run, stage="ct")


def transpose_kernels(model: nn.Module) -> None:
    """Swap height and width of every trainable square convolution kernel, in place; twice is the identity."""
    with torch.no_grad():
        for layer in _kernels(model):
            layer.weight.copy_(layer.weight.transpose(2, 3).clone())


def _kernels(model: nn.Module) -> list[nn.Conv2d]:
    """Return the two-dimensional convolutions whose kernel a transposition changes."""
    return [
        m
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
        and m.weight.requires_grad
        and m.weight.shape[2] == m.weight.shape[3]
        and m.weight.shape[2] > 1
    ]
