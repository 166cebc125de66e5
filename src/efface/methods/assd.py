"""ASSD: selective dampening that finds its own threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import weights_sha256
from efface.curvature.fisher import Estimator
from efface.data import Split
from efface.mechanisms.dampening import dampen, norm_parameters, quantile_of_ratios
from efface.mechanisms.fisher_contrast import Denominator, Order, contrast, recall_full, remember_full
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["ASSD"]


@dataclass(frozen=True)
class ASSD(Method):
    """Dampen the ln(1 + 100 r) percent of weights with the largest ratio of importances, r the share to forget.

    ρ[i] = I_F[i] / I[i] over all weights (those without a finite ratio left out of the percentile);
    q = 100 - ln(1 + 100 r), r = n_f/n;  α = q-th percentile of all ρ together;  then as SSD:
    where I_F[i] > α I[i]:  θ[i] ← min(λ I[i] / I_F[i], 1) θ[i].

    There is nothing to tune, but the selected share follows from r alone, whatever the model: 0.69 % for r = 1 %,
    2.4 % for r = 10 %.

    Source: Schoepf, Foster, Brintrup (arXiv 2402.10098).

    Attributes:
        lam: Dampening constant λ (published: 1).
        estimator: `batch_squared` (the notebook), `empirical` (the paper), `true`, or `mc`.
        denominator: `retain` or `full`.
        batch_size: Samples per batch, for `batch_squared` only.
        order: For `batch_squared` only: `shuffled`, `class_sorted`, or `published`: for classes the kept ones in turn
            and the forgotten ones last, for items shuffled.
        skip_norm: Leave scales and shifts of normalisation layers alone (published: dampened too).
    """

    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    estimator: Estimator = "batch_squared"
    denominator: Denominator = "retain"
    batch_size: Annotated[int, Field(ge=1)] = 1024
    order: Order = "published"
    skip_norm: bool = False

    name: ClassVar[str] = "assd"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(N) gradients once, O(N_F + P) with cached importances"
    memory: ClassVar[str] = "10 P + A, sums in float64"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "Schoepf et al., arXiv 2402.10098"
    space: ClassVar[Mapping[str, Axis]] = {
        "lam": Axis(0.1, 10.0, log=True),
        "estimator": Axis(choices=("batch_squared", "empirical")),
    }

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train plainly, and keep the importances of all data: a request then reads what it forgets, and no more."""
        model = fit(model, split.train, recipe, run)
        return model, remember_full(model, split, run, self.estimator, weights_sha256(model.state_dict()))

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a dampened copy."""
        model = run.copied(artifact.model).eval()
        full = recall_full(artifact.memory, model, split, self.estimator, artifact.weights_sha256)
        found = contrast(
            model, split, run, self.name, self.estimator, self.denominator, self.batch_size, self.order, full
        )
        skip = norm_parameters(model) if self.skip_norm else frozenset()
        share = math.log1p(100 * len(split.forget) / (len(split.forget) + len(split.retain)))
        alpha = quantile_of_ratios(found.forget, found.reference, 100 - share, skip)
        done = dampen(model, found.forget, found.reference, alpha, self.lam, skip)
        done.report(self.name, run)
        return model
