"""Masking the forgotten class's logit: the trivial answer that every class method has to beat."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.methods.method import Expense, Method, Needs
from efface.models.head import head_of
from efface.running.run import Run

__all__ = ["LogitMask"]


@dataclass(frozen=True)
class LogitMask(Method):
    """Set the head's bias of every forgotten class to a large negative number; nothing else changes.

    Then softmax(z)_f = 0 and softmax(z)_k for a kept class k is the old softmax renormalised over the kept classes.
    Forget accuracy is exactly 0 and the features are bit-identical: whatever a linear probe or relearning finds
    afterwards was never forgotten. Zeroing the row instead would give logit 0, which wins whenever the others are
    negative.

    Source: "head mask" or "head distillation" of arXiv 2405.17878 and others.

    Attributes:
        value: The bias; finite, because -inf makes NaN in 0 * inf products.
    """

    value: Annotated[float, Field(lt=0, allow_inf_nan=False)] = -1e4

    name: ClassVar[str] = "logit-mask"
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(1)"
    memory: ClassVar[str] = "P"
    expense: ClassVar[Expense] = "instant"
    source: ClassVar[str] = "trivial baseline; arXiv 2405.17878"

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the model has no linear head with a bias."""
        name, layer = head_of(artifact.model, split.data.input_shape)
        if layer.bias is None:
            raise InputError(
                f"logit-mask sets the bias of the last linear layer, but {name} has none; "
                "give the layer a bias of zeros (the same function), or use decay"
            )

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose head never chooses a forgotten class."""
        model = run.copied(artifact.model)
        _, layer = head_of(model, split.data.input_shape)
        with torch.no_grad():
            layer.bias[list(split.forget_classes)] = self.value
        return model
