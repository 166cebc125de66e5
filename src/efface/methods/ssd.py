"""SSD: dampen the weights that are more important for the data to forget than for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import weights_sha256
from efface.curvature.fisher import Estimator
from efface.data import Split
from efface.mechanisms.dampening import dampen, norm_parameters
from efface.mechanisms.fisher_contrast import (
    Denominator,
    Order,
    contrast,
    recall_full,
    remember_full,
    require_reachable,
)
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["SSD"]


@dataclass(frozen=True)
class SSD(Method):
    """Dampen, in one shot and without training, the weights that matter more for forget data than for the reference.

    Where I_F[i] > α I[i]:  θ[i] ← min(λ I[i] / I_F[i], 1) θ[i];  everything else, buffers included, stays as it is.
    I is a diagonal of squared gradients of the cross-entropy (`efface.curvature`), over all training data D
    (`denominator="full"`, the paper) or over the kept part (`"retain"`, our default). Since λ/α bounds the factor, SSD
    with α = 10 divides every selected weight by more than ten: close to pruning.

    Source: Foster, Schoepf, Brintrup, AAAI 2024 (arXiv 2308.07707).

    Attributes:
        alpha: Selection threshold α (paper and code: 10); what matters most, together with the estimator.
        lam: Dampening constant λ (paper and code: 1); hardly matters below alpha.
        estimator: `empirical` (the paper: true labels, per sample), `true`, `mc`, or `batch_squared` (the code).
        denominator: `retain` or `full`.
        batch_size: Samples per batch, for `batch_squared` only.
        order: For `batch_squared` only: `shuffled`, `class_sorted`, or `published`: for classes the kept ones in turn
            and the forgotten ones last, for items shuffled.
        skip_norm: Leave scales and shifts of normalisation layers alone (the paper dampens them too).
    """

    alpha: Annotated[float, Field(ge=0)] = 10.0
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    estimator: Estimator = "empirical"
    denominator: Denominator = "retain"
    batch_size: Annotated[int, Field(ge=1)] = 64
    order: Order = "published"
    skip_norm: bool = False

    name: ClassVar[str] = "ssd"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(N) gradients once, O(N_F) with cached importances"
    memory: ClassVar[str] = "9 P + A, sums in float64"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "Foster et al., AAAI 2024, arXiv 2308.07707"
    space: ClassVar[Mapping[str, Axis]] = {
        "alpha": Axis(0.5, 100.0, log=True),
        "lam": Axis(0.05, 5.0, log=True),
    }

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train plainly, and keep the importances of all data: a request then reads what it forgets, and no more."""
        model = fit(model, split.train, recipe, run)
        return model, remember_full(model, split, run, self.estimator, weights_sha256(model.state_dict()))

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if no weight can possibly exceed the threshold."""
        if self.denominator == "full" and self.estimator != "batch_squared":
            require_reachable(self.name, self.alpha, split)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a dampened copy."""
        model = run.copied(artifact.model).eval()
        full = recall_full(artifact.memory, model, split, self.estimator, artifact.weights_sha256)
        found = contrast(
            model, split, run, self.name, self.estimator, self.denominator, self.batch_size, self.order, full
        )
        skip = norm_parameters(model) if self.skip_norm else frozenset()
        done = dampen(model, found.forget, found.reference, self.alpha, self.lam, skip)
        done.report(self.name, run)
        return model
