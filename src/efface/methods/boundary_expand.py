"""Boundary Expanding: an extra class is invented for the forget images, and then deleted."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact import Artifact
from efface.data import Split
from efface.data.augment import Augment
from efface.errors import InputError
from efface.mechanisms.batch_size import fitting_batch
from efface.methods.method import Expense, Method, Needs
from efface.models.batch_norm import batch_norms
from efface.models.head import head
from efface.models.predictions import accuracy
from efface.models.widening import narrow, widen
from efface.run import Run
from efface.training import cross_entropy, fit

__all__ = ["BoundaryExpand"]


@dataclass(frozen=True)
class BoundaryExpand(Method):
    """Widen the head by one class, fine-tune all forget images towards it, and delete it again.

    W in R^{K x d} -> R^{(K+1) x d}, new row Xavier-normal, bias 0;  L = CE(f_wide(x), K) on D_f;  delete row K

    All parameters train. Nothing holds the kept classes, and after the deletion nothing but the softmax's competition
    keeps the old class from being the runner-up.

    Source: Chen, Gao, Liu, Peng, Wang, "Boundary Unlearning", CVPR 2023, arXiv 2303.11570, section 4.3. Defaults: the
    official code, but for the learning rate: its 1e-5, over 790 steps on CIFAR-10, leaves small data in place, and 1e-4
    is what DELETE's authors use (digits, BatchNorm CNN, class 0: forget accuracy 0.84 at 1e-5, 0.42 at 1e-4, 0.02 at
    3e-4). A note says when the class was left in place.

    Where we differ: row K is deleted, which SalUn's copy of the code forgets; `min_steps` is ours, because a batch of
    64 leaves small data a step or two per pass. Without retained data BatchNorm's running statistics drift to those of
    the forget data; `freeze_batch_norm` prevents it.

    Attributes:
        lr: Constant learning rate of SGD.
        momentum: Of SGD.
        epochs: Passes over D_f.
        batch_size: Images per step.
        min_steps: On small data the batch shrinks (not below 8) until a pass has this many steps; 0 never shrinks it.
        freeze_batch_norm: Keep BatchNorm's running statistics.
    """

    lr: Annotated[float, Field(ge=0)] = 1e-4
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

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if there is no linear head, or BatchNorm would have to normalise a single image."""
        device = next(artifact.model.parameters()).device
        try:
            name, _ = head(artifact.model, torch.zeros(2, *split.data.input_shape, device=device))
        except InputError as error:
            raise InputError(f"boundary-expand widens the last linear layer. {error} Or use boundary-shrink") from None
        if not name:
            raise InputError(
                "boundary-expand exchanges the last layer, and this model is nothing but that layer; wrap it in "
                "nn.Sequential, or use boundary-shrink"
            )
        if len(split.forget) == 1 and not self.freeze_batch_norm and batch_norms(artifact.model):
            raise InputError(
                "boundary-expand trains on the forget data alone, and BatchNorm cannot normalise a single sample; set "
                "freeze_batch_norm, or use logit-mask"
            )

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose forget images were driven into a class that no longer exists."""
        model, part = run.copied(artifact.model), split.forget
        name, layer = head(model, torch.zeros(2, *split.data.input_shape, device=run.device))
        recipe = artifact.record.recipe.but(
            optimiser="sgd",
            momentum=self.momentum,
            nesterov=False,
            lr=self.lr,
            weight_decay=0.0,
            schedule="constant",
            epochs=self.epochs,
            batch_size=fitting_batch(len(part), self.batch_size, self.min_steps),
            augment=Augment(),
            clip_norm=None,
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
        left = accuracy(model, part, run.device)
        if left > 0.1:
            run.note(f"{self.name}: {left:.0%} of the forget data is still recognised; raise lr ({self.lr:g})")
        return model
