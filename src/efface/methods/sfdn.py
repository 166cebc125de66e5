"""SFDN: Fisher forgetting, noise where the kept data does not mind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.curvature.fisher import fisher_diagonal
from efface.data import Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.mechanisms.fisher_noise import NoiseRule, add_noise, head_parameters
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.batch_norm import recompute_statistics
from efface.running.run import Run

__all__ = ["SFDN"]


@dataclass(frozen=True)
class SFDN(Method):
    """Add Gaussian noise to every weight, the more the less the kept data depends on it, and hide a forgotten class.

    w ← w + √v n,  n ~ N(0, I),  v = α min((F + 1e-8)^-exponent, 1e3), F the diagonal true Fisher over the kept data;
    v of the head is at most 100 α; v is averaged over input channels, and the head and all vectors get ten times more.
    For whole classes the head's weight row and bias of each forgotten class are set to zero before (`hide`), with noise
    of variance 1e-3 whatever α is. The noise does not depend on the forget data, which is never read.

    Source: Golatkar, Achille, Soatto, CVPR 2020 (arXiv 1911.04933) and its notebook.

    Attributes:
        alpha: Scale of the noise's variance (notebook: 1e-6); the value that matters, over four decades.
        exponent: Power of 1/F: 1 (code) or 0.5 (paper).
        plain: Leave out clamps, averages and factors.
        hide: For classes: zero the forgotten rows of the head (code: yes).
        row_variance: Of the noise on these rows before the factor ten; the code does not scale it by alpha.
        estimator: `true` (code: exact over all labels), `mc` (one drawn label, K times faster), or `empirical`.
        refresh: Re-estimate BatchNorm statistics on the kept data afterwards.
    """

    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-6
    exponent: Annotated[float, Field(ge=0, le=1)] = 1.0
    plain: bool = False
    hide: bool = True
    row_variance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    estimator: Literal["true", "mc", "empirical"] = "true"
    refresh: bool = False

    name: ClassVar[str] = "sfdn"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(K N_R) gradients (mc: O(N_R))"
    memory: ClassVar[str] = "7 P + A, sums in float64"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "Golatkar et al., CVPR 2020, arXiv 1911.04933"
    space: ClassVar[Mapping[str, Axis]] = {
        "alpha": Axis(1e-09, 0.001, log=True),
        "row_variance": Axis(1e-06, 0.01, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the model has no linear head."""
        try:
            own = head_parameters(artifact.model, split.data.input_shape)
        except InputError as error:
            raise InputError(f"sfdn treats the head on its own. {error} Or use ssd, which treats all alike") from None
        frozen = [n for n in own if not artifact.model.get_parameter(n).requires_grad]
        if self.hide and split.forget_classes and frozen:
            raise InputError(
                f"sfdn would hide the class in {frozen[0]}, which is frozen; use hide=False, or unfreeze it"
            )

    def rule(self) -> NoiseRule:
        """Return how the Fisher diagonal becomes variances under these settings."""
        if self.plain:
            free = float("inf")
            return NoiseRule(self.alpha, self.exponent, largest=free, largest_head=free, average=False, boost=1)
        return NoiseRule(self.alpha, self.exponent)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a noisy copy."""
        model = run.copied(artifact.model).eval()
        own = head_parameters(model, split.data.input_shape)
        fisher = fisher_diagonal(
            model,
            split.retain.batches(Epoch(1024, device=run.device)),
            estimator=self.estimator,
            generator=run.generator("sfdn/labels"),
        )
        rule = self.rule()
        variances = rule.variances(fisher.mean(), own)
        if self.hide and split.forget_classes:
            rows = list(split.forget_classes)
            with torch.no_grad():
                for key in own:
                    model.get_parameter(key)[rows] = 0
                    variances[key][rows] = self.row_variance * rule.boost
            run.note(f"sfdn zeroed the head's rows of classes {rows}: this hides them, whatever the features hold")
        add_noise(model, variances, run.generator("sfdn/noise"))
        total = sum(float(v.sum()) for v in variances.values())
        count = sum(v.numel() for v in variances.values())
        run.history.add("sfdn", alpha=self.alpha, mean_deviation=(total / count) ** 0.5)
        if self.refresh:
            recompute_statistics(model, split.retain.batches(Epoch(256, device=run.device)))
        return model
