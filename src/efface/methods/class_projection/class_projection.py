"""ClassProjection: take the directions that only the forgotten class uses out of every layer's input space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.methods.class_projection.input_space import input_directions, project, projection
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.batch_norm import recompute_statistics
from efface.models.predictions import accuracy_of
from efface.running.run import Run

__all__ = ["ClassProjection"]

_RETAIN_GRID = (1000.0, 300.0, 100.0, 30.0, 10.0)

_FORGET_GRID = (1.0, 3.0, 10.0, 30.0, 100.0)

Alpha = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class ClassProjection(Method):
    """Project every layer's weights off what its inputs hold of the forgotten class and not of the kept ones.

    Per linear or convolutional layer, with inputs X_f and X_r of the original model (for convolutions, patches), not
    centred:  X = U Σ Vᵀ,  s_i = σ_i²/Σσ²,  λ_i = α s_i / ((α-1) s_i + 1),  M = U diag(λ) Uᵀ,
    P = I - M_f (I - M_r),  W ← W Pᵀ. No gradient, one shot, about a thousand images; biases and BatchNorm stay.

    α_r and α_f are searched over 5 x 5 values by acc_r (1 - acc_f) on the very samples that the spaces are made of, as
    in the paper, unless both are given (paper: CIFAR-10 100 and 3, CIFAR-100 1000 and 30, ImageNet 100 and 10).

    Source: Kodge, Saha, Roy, TMLR 2024 (arXiv 2312.00761).

    Attributes:
        alpha_retain: α_r; None searches.
        alpha_forget: α_f; None searches.
        samples: Kept images, balanced over classes; of the forgotten ones, at most as many (paper, CIFAR-10: 900).
        columns: Most patches or tokens counted per layer (code: 10 000).
        refresh: Re-estimate BatchNorm statistics on the kept images afterwards (paper: no).
    """

    alpha_retain: Alpha | None = None
    alpha_forget: Alpha | None = None
    samples: Annotated[int, Field(ge=1)] = 900
    columns: Annotated[int, Field(ge=1)] = 10_000
    refresh: bool = False

    name: ClassVar[str] = "class-projection"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True, retain=True)
    cost: ClassVar[str] = "O(n d² + d³) per layer of d inputs, n = 10⁴, and 25 evaluations"
    memory: ClassVar[str] = "3 P + 5 d² per layer of d inputs"
    expense: ClassVar[Expense] = "gradients"
    source: ClassVar[str] = "Kodge et al., TMLR 2024, arXiv 2312.00761"
    space: ClassVar[Mapping[str, Axis]] = {
        "alpha_retain": Axis(1.0, 1000.0, log=True),
        "alpha_forget": Axis(1.0, 1000.0, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if only one strength is given, or there is no layer to project."""
        if (self.alpha_retain is None) != (self.alpha_forget is None):
            raise InputError("class-projection: give both alpha_retain and alpha_forget, or neither to search them")
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
        if not any(isinstance(m, kinds) and m.weight.requires_grad for m in artifact.model.modules()):
            raise InputError("class-projection: no linear or convolutional layer has trainable weights; use ssd")

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a projected copy."""
        model = run.copied(artifact.model).eval()
        draw = run.generator("class-projection")
        retain = balanced(split.retain, split.retain_classes, self.samples, draw)
        forget = balanced(split.forget, split.forget_classes, len(retain), draw)
        kept, gone = (
            input_directions(model, part.batches(Epoch(256, device=run.device)), self.columns, len(part), draw)
            for part in (retain, forget)
        )
        if not kept:
            raise InputError("class-projection: the model calls none of its linear or convolutional layers; use ssd")
        original = {name: model.get_submodule(name).get_parameter("weight").detach().clone() for name in kept}

        def edit(alphas: tuple[float, float]) -> None:
            for name, weight in original.items():
                with torch.no_grad():
                    model.get_submodule(name).get_parameter("weight").copy_(weight)
                project(model, {name: projection(gone[name], kept[name], alphas[1], alphas[0])})

        if self.alpha_retain is not None and self.alpha_forget is not None:
            edit((self.alpha_retain, self.alpha_forget))
        else:
            scores: dict[tuple[float, float], float] = {}
            for alphas in run.track(list(itertools.product(_RETAIN_GRID, _FORGET_GRID)), "class-projection", 25):
                edit(alphas)
                scores[alphas] = accuracy_of(model, retain) * (1 - accuracy_of(model, forget))
                run.history.add(
                    "class-projection", alpha_retain=alphas[0], alpha_forget=alphas[1], score=scores[alphas]
                )
            best = max(scores, key=lambda alphas: scores[alphas])  # of equals the first, which is the gentlest
            run.note(
                f"class-projection chose alpha_retain {best[0]:g}, alpha_forget {best[1]:g}: score {scores[best]:.3f}"
            )
            edit(best)
        if self.refresh:
            recompute_statistics(model, retain.batches(Epoch(256, device=run.device)))
        return model


def balanced(part: Part, classes: tuple[int, ...], size: int, generator: torch.Generator) -> Part:
    """Return at most `size` samples, as evenly over the classes as they allow, in their original order."""
    labels = part.labels.numpy()
    order = torch.randperm(len(part), generator=generator).numpy()
    each = {c: order[labels[order] == c] for c in classes}
    ranks = np.concatenate([np.arange(len(v)) for v in each.values()])
    chosen = np.concatenate(list(each.values()))[np.argsort(ranks, kind="stable")][:size]
    return part.take(np.sort(chosen))
