"""DELETE: distil from the original with the forgotten class masked out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.data import Augment, Split
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.head import head_of
from efface.models.predictions import logits_of
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["DELETE", "masked_softmax"]


@dataclass(frozen=True)
class DELETE(Method):
    """Imitate, on the data to forget, the frozen original with the true logit masked.

    q(x) = softmax(z_0(x) with z_0,y = -inf);   L = mean KL(q(x) || softmax(z(x))) = mean [-log(1 - p_y) + KL over the
    other classes]. At the original weights the second term is zero. Masking the head's logit reaches L = 0 exactly,
    so no score on outputs tells the two apart: look at features.

    Source: Zhou et al., CVPR 2025 (arXiv 2503.23751).

    Attributes:
        epochs: Passes over the data to forget.
        lr: Constant learning rate of SGD with momentum 0.9.
        mask: Which logits of the target are masked.
        batch_norm: Mode of BatchNorm during the passes.
        freeze_head: Keep the last linear layer, so that only features can forget.
    """

    epochs: Annotated[float, Field(ge=0)] = 20.0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    mask: Literal["forgotten", "label"] = "forgotten"
    batch_norm: Literal["train", "eval"] = "train"
    freeze_head: bool = False

    name: ClassVar[str] = "delete"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True)
    cost: ClassVar[str] = "O(E N_F), E = 20"
    memory: ClassVar[str] = "4 P + A: SGD and a teacher"
    expense: ClassVar[Expense] = "forget epochs"
    source: ClassVar[str] = "arXiv 2503.23751"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(2.0, 30.0),
        "lr": Axis(1e-05, 0.01, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the head is to be frozen and there is none."""
        if self.freeze_head:
            _head(artifact.model, split)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy that imitates the masked original on the data to forget."""
        model, teacher = run.copied(artifact.model), run.copied(artifact.model).eval()
        recipe = artifact.record.recipe.but(
            optimiser="sgd",
            momentum=0.9,
            lr=self.lr,
            epochs=self.epochs,
            schedule="constant",
            weight_decay=0.0,
            label_smoothing=0.0,
        )
        part = split.forget
        masked = torch.zeros(len(part), len(split.data.classes), dtype=torch.bool)
        if self.mask == "forgotten":
            masked[:, list(split.forget_classes)] = True
        masked[torch.arange(len(part)), part.labels] = True
        masked = masked.to(run.device)
        cached = None
        if recipe.augment == Augment():
            cached = masked_softmax(logits_of(teacher, part, batch_size=recipe.batch_size).to(run.device), masked)

        def loss(network: nn.Module, x: Tensor, position: Tensor) -> Tensor:
            if cached is not None:
                q = cached[position]
            else:
                with torch.no_grad():
                    q = masked_softmax(teacher(x).float(), masked[position])
            return F.kl_div(F.log_softmax(network(x).float(), dim=1), q, reduction="batchmean")

        frozen = {id(p) for p in _head(model, split).parameters()} if self.freeze_head else set()
        return fit(
            model,
            part.relabelled(torch.arange(len(part))),  # the loss looks targets up by position, not by label
            recipe,
            run,
            stage="delete",
            loss=loss,
            parameters=[p for p in model.parameters() if p.requires_grad and id(p) not in frozen],
            freeze_batch_norm=self.batch_norm == "eval",
        )


def masked_softmax(z: Tensor, masked: Tensor) -> Tensor:
    """Return softmax(z) renormalised over the classes that are not masked; exactly 0 where they are.

    Args:
        z: Logits, float32 (B, K).
        masked: Which to leave out, bool (B, K); at least one per row stays.
    """
    return F.softmax(z.masked_fill(masked, -torch.inf), dim=1)


def _head(model: nn.Module, split: Split) -> nn.Linear:
    return head_of(model, split.data.input_shape)[1]
