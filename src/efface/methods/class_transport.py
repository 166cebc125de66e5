"""Class transport: refit every layer, in closed form, so that a class is taken for the classes that stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.class_removal import check_removable, known_means, place_rows, untrained_logit
from efface.mechanisms.class_transport import Move, transport
from efface.mechanisms.head_refit import refit_head
from efface.mechanisms.repair import statistics_anew
from efface.mechanisms.shrink_and_perturb import fresh_weights
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run

__all__ = ["ClassTransport"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ClassTransport(Method):
    """Move a class's inputs among those of kept classes at every layer, then fit the head: no epoch of training.

    W_l <- W_l P_l,  P_l = argmin sum over D_r of |P h' - h|^2 + weight sum over D_f of |P h' - t(h')|^2
    t(h) = h - (m - T) - within (I - B B^T) (h - m);  h' what the layers before now give, h what the original's gave

    m is the class's mean input, B spans the kept classes' means, and T lies among these: `mixture` of the way from the
    nearest of their mixtures to the one in the shares of the masked original's answers. Intercepts go to the bias. The
    head's kept rows are fitted to D_r by L-BFGS, the forgotten rows drawn anew and placed as in project-distil.

    Source: ours; no publication. Settings were found on digits (an MLP, originals of seeds 200 and 201).

    Attributes:
        weight: Of a record to forget beside a kept one: more forgets more.
        mixture: See above; 0 is the nearest, 1 the answers' mixture.
        within: Share of what the class's records have beside the kept means' span that is taken out of each.
        head_steps: Most steps of L-BFGS; 0 leaves the kept rows.
        samples: Most records per class that layers are refitted on.
    """

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    mixture: Share = 0.7
    within: Share = 1.0
    head_steps: Annotated[int, Field(ge=0)] = 15
    samples: Annotated[int, Field(ge=1)] = 500

    name: ClassVar[str] = "class-transport"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True, retain=True)
    cost: ClassVar[str] = "O(L K samples) forward, O(d² K samples + d³) per layer of d inputs"
    memory: ClassVar[str] = "3 P, 4 d² per layer of d inputs, float64"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "ours"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "weight": Axis(0.1, 20.0, log=True),
        "mixture": Axis(0.0, 1.0),
    }
    knob: ClassVar[str] = "weight"

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if the head is not linear or some module cannot be initialised anew."""
        check_removable(artifact, split, "data", None, self.name)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a refitted copy."""
        model = run.copied(artifact.model).eval()
        recipe = artifact.record.recipe
        means = known_means(artifact, split, run, "data", self.name, self.samples, forget=False)
        logit = untrained_logit(model, means, split, run)
        transport(model, split, run, Move(self.weight, self.mixture, self.within), self.samples, self.name)
        statistics_anew(model, split.retain, recipe, run, self.name)
        refit_head(model, split, run, self.head_steps, self.name)
        place_rows(model, fresh_weights(model, run, "class-transport/rows"), split, run, logit, self.name)
        return model
