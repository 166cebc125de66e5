"""LFSSD: selective dampening without labels and without a loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.dampening import dampen, loss_free, norm_parameters
from efface.mechanisms.fisher_contrast import (
    Denominator,
    Order,
    batches,
    reference_part,
    require_reachable,
)
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run

__all__ = ["LFSSD"]


@dataclass(frozen=True)
class LFSSD(Method):
    """Dampen the weights that move the size of the logits more on forget data than on the reference; no label is read.

    I_S[i] = mean over batches of |∂/∂θ_i (mean over the batch of ‖z‖²)|; where I_F[i] > α I[i]:
    θ[i] ← min(λ I[i] / I_F[i], 1) θ[i]. Works where SSD cannot, on forget data that the model fits perfectly.

    α acts on absolute gradients, so it is not comparable with SSD's α on squares. The absolute value is taken of the
    batch's mean gradient, as in the published code.

    Source: Foster et al., ICLR 2024 Tiny Papers (arXiv 2402.19308).

    Attributes:
        alpha: Selection threshold α.
        lam: Dampening constant λ.
        denominator: `retain`, the kept part, or `full`, all training data (published).
        batch_size: Samples per batch.
        order: `shuffled`, `class_sorted`, or `published`: for classes the kept ones in turn
            and the forgotten ones last, for items shuffled.
        skip_norm: Leave scales and shifts of normalisation layers alone (published: dampened too).
    """

    alpha: Annotated[float, Field(ge=0)] = 5.0
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    denominator: Denominator = "retain"
    batch_size: Annotated[int, Field(ge=1)] = 64
    order: Order = "published"
    skip_norm: bool = False

    name: ClassVar[str] = "lfssd"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(N) gradients"
    memory: ClassVar[str] = "8 P + A, sums in float64"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "Foster et al., ICLR 2024 Tiny Papers, arXiv 2402.19308"
    space: ClassVar[Mapping[str, Axis]] = {
        "alpha": Axis(0.5, 100.0, log=True),
        "lam": Axis(0.05, 5.0, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if no weight can possibly exceed the threshold."""
        if self.denominator == "full" and self.batch_size == 1:
            require_reachable(self.name, self.alpha, split)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a dampened copy."""
        model = run.copied(artifact.model).eval()
        parts = (split.forget, reference_part(split, self.denominator))
        forget, reference = (
            loss_free(model, batches(p, self.batch_size, self.order, split, run, f"{self.name}/{p.name}"))
            for p in parts
        )
        skip = norm_parameters(model) if self.skip_norm else frozenset()
        done = dampen(model, forget, reference, self.alpha, self.lam, skip)
        done.report(self.name, run)
        return model
