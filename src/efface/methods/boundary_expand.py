"""One class more for a classifier, for as long as it is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.mechanisms.batch_size import fitting_batch
from efface.mechanisms.forget_only import note_if_left, require_more_than_one
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.head import head_of
from efface.running.run import Run
from efface.training.loop import cross_entropy, fit

__all__ = ["BoundaryExpand", "narrow", "widen"]


def widen(model: nn.Module, name: str, generator: torch.Generator) -> None:
    """Give the head of a model one more output, in place; the old logits stay bit for bit.

    The new row is Xavier-normal, N(0, 2 / (d + K + 1)) for d features and K classes, its bias 0.

    Args:
        model: Any module.
        name: Its head, as `efface.models.head` names it.
        generator: Source of the row, on the CPU.

    Raises:
        InputError: The model is itself its head, and cannot be given another.
    """
    old = _head(model, name)
    k, d = old.weight.shape
    row = torch.randn(1, d, generator=generator) * math.sqrt(2 / (d + k + 1))
    _replace(model, name, torch.cat([old.weight.detach(), row.to(old.weight)]), 1)


def narrow(model: nn.Module, name: str) -> None:
    """Delete the last output of the head, in place; the other logits stay bit for bit."""
    _replace(model, name, _head(model, name).weight.detach()[:-1].clone(), -1)


def _head(model: nn.Module, name: str) -> nn.Linear:
    if not name:
        raise InputError(
            "the model is a single linear layer, which cannot be exchanged inside it; wrap it in nn.Sequential, or use "
            "boundary-shrink"
        )
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def _replace(model: nn.Module, name: str, weight: torch.Tensor, by: int) -> None:
    old = _head(model, name)
    # On the meta device: no random number is drawn for weights that are replaced at once.
    new = nn.Linear(old.in_features, len(weight), bias=old.bias is not None, device="meta")
    new.weight = nn.Parameter(weight, requires_grad=old.weight.requires_grad)
    if old.bias is not None:
        bias = old.bias.detach()
        bias = torch.cat([bias, bias.new_zeros(1)]) if by > 0 else bias[:-1].clone()
        new.bias = nn.Parameter(bias, requires_grad=old.bias.requires_grad)
    new.train(old.training)
    model.set_submodule(name, new)


@dataclass(frozen=True)
class BoundaryExpand(Method):
    """Widen the head by one class, fine-tune all forget images towards it, and delete it again.

    W in R^{K x d} -> R^{(K+1) x d}, new row Xavier-normal, bias 0;  L = CE(f_wide(x), K) on D_f;  delete row K

    All parameters train. Nothing holds the kept classes, and after the deletion nothing but the softmax's competition
    keeps the old class from being the runner-up.

    Source: Chen, Gao, Liu, Peng, Wang, "Boundary Unlearning", CVPR 2023, arXiv 2303.11570, section 4.3.

    Attributes:
        lr: Constant learning rate of SGD.
        momentum: Of SGD.
        epochs: Passes over D_f.
        batch_size: Images per step.
        min_steps: On small data the batch shrinks (not below 8) until a pass has this many steps; 0 never shrinks it.
        freeze_batch_norm: Keep BatchNorm's running statistics.
    """

    lr: Annotated[float, Field(ge=0)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epochs: Annotated[float, Field(ge=0)] = 10.0
    batch_size: Annotated[int, Field(ge=2)] = 64
    min_steps: Annotated[int, Field(ge=0)] = 70
    freeze_batch_norm: bool = False

    name: ClassVar[str] = "boundary-expand"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True)
    cost: ClassVar[str] = "O(E N_F), 10 passes"
    memory: ClassVar[str] = "3 P + A: SGD with momentum"
    expense: ClassVar[Expense] = "forget epochs"
    source: ClassVar[str] = "boundary unlearning, arXiv 2303.11570"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "lr": Axis(1e-05, 0.001, log=True),
        "epochs": Axis(2.0, 20.0),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if there is no linear head, or BatchNorm would have to normalise a single image."""
        try:
            name, _ = head_of(artifact.model, split.data.input_shape)
        except InputError as error:
            raise InputError(f"boundary-expand widens the last linear layer. {error} Or use boundary-shrink") from None
        if not name:
            raise InputError(
                "boundary-expand exchanges the last layer, and this model is nothing but that layer; wrap it in "
                "nn.Sequential, or use boundary-shrink"
            )
        require_more_than_one(self.name, artifact.model, split.forget, self.freeze_batch_norm, "logit-mask")

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose forget images were driven into a class that no longer exists."""
        model, part = run.copied(artifact.model), split.forget
        name, layer = head_of(model, split.data.input_shape)
        size = fitting_batch(len(part), self.batch_size, self.min_steps)
        recipe = artifact.record.recipe.bare(
            optimiser="sgd", momentum=self.momentum, lr=self.lr, epochs=self.epochs, batch_size=size
        )
        widen(model, name, run.generator("boundary-expand/new class"))
        fit(
            model,
            part.relabelled(torch.full((len(part),), layer.out_features)),
            recipe,
            run,
            stage=self.name,
            loss=cross_entropy,
            freeze_batch_norm=self.freeze_batch_norm,
        )
        narrow(model, name)
        note_if_left(self.name, model, part, self.lr, run)
        return model
