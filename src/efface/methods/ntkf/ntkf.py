"""NTK forgetting: move the weights by the difference of two minimisers of the linearised loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.curvature.fisher import fisher_diagonal
from efface.curvature.jacobian import Linearisation
from efface.data import Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.fisher_noise import NoiseRule, add_noise, head_parameters
from efface.methods.method import Axis, Expense, Method, Needs
from efface.methods.ntkf.ridge import RidgeProblem, Solver, displacements, trapezium
from efface.models.head import features
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["NTKF"]

_START = "ntkf/start/"

_DIRECT = 2000  # beyond, conjugate gradients are faster (measured on perceptrons)


@dataclass(frozen=True)
class NTKF(Method):
    """Linearise the network, and move its weights from the minimiser over all data to that over the kept data.

    δ_S = argmin over δ of Σ_{i in S} loss(f_i + J_i δ) + ½ |S| μ ‖w + δ - w₀‖²,   Δ = δ_{D_r} - δ_D,   w ← w + s Δ + n,
    (JᵀHJ + |S| μ I) δ_S = -(Jᵀe + |S| μ (w - w₀)), e = softmax(f) - onehot, J in eval mode and in
    float64 (float32 for conjugate gradients over a whole network).

    Valid where training moved the weights little from w₀. Preparing with this method arranges that: training with the
    penalty (μ/2)‖w - w₀‖² instead of weight decay, BatchNorm frozen, and w₀ kept.
    Source: Golatkar, Achille, Soatto, ECCV 2020 (arXiv 2003.02960) and its notebook.

    Attributes:
        linearise: J, e and ridge: `trained`, at w around w₀; `initial`, at w₀ around w₀; `official`, at w around w.
        hessian: Use the cross-entropy's Hessian in the logits (Gauss-Newton); the notebook does not.
        scale: s; or `trapezium`, the notebook's heuristic.
        mu: μ; None takes what training used. Notebook: 0.1, also in preparation, where None means 0.1.
        parameters: `all`, `head`, or `auto`: all for a prepared model, the head otherwise.
        noise: α of the noise afterwards.
        solver: `primal` (normal matrix), `dual` (Gram matrix), `cg`, or `auto`: direct where a side is at most 2000.
        iterations: Most steps of conjugate gradients for each minimiser.
        tolerance: Relative residual at which they stop.
        largest_gap: Refuse if ‖JΔ - (f(w+Δ) - f(w))‖/‖JΔ‖ on the forget data is larger: not linear over the shift.
    """

    linearise: Literal["trained", "initial", "official"] = "trained"
    hessian: bool = True
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["trapezium"] = 1.0
    mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    parameters: Literal["auto", "all", "head"] = "auto"
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-9
    solver: Solver | Literal["auto"] = "auto"
    iterations: Annotated[int, Field(ge=1)] = 50
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    largest_gap: Annotated[float, Field(gt=0)] = 0.5

    name: ClassVar[str] = "ntk-f"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(N K P m + m³) with m = min(N K, P), or O(I N K P) by CG"
    memory: ClassVar[str] = "P + m² float64"
    expense: ClassVar[Expense] = "training"
    source: ClassVar[str] = "Golatkar et al., ECCV 2020, arXiv 2003.02960"
    space: ClassVar[Mapping[str, Axis]] = {
        "scale": Axis(0.25, 2.0),
        "noise": Axis(1e-12, 0.0001, log=True),
    }

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train with BatchNorm frozen and the penalty (μ/2)‖w - w₀‖², and keep w₀ and μ."""
        mu = 0.1 if self.mu is None else self.mu
        model = model.to(run.device)
        start = {n: p.detach().clone() for n, p in model.named_parameters()}

        def loss(wrapped: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            away = torch.stack([(p - start[n]).square().sum() for n, p in model.named_parameters()]).sum()
            return F.cross_entropy(wrapped(x), y, label_smoothing=recipe.label_smoothing) + mu / 2 * away

        fit(model, split.train, recipe.but(weight_decay=0), run, loss=loss, freeze_batch_norm=True)
        memory = {_START + n: v.cpu() for n, v in start.items()}
        return model, {**memory, "ntkf/mu": torch.tensor(mu, dtype=torch.float64)}

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if the start of training is needed and unknown, or the head is needed and not linear."""
        prepared = "ntkf/mu" in artifact.memory
        if not prepared and (self.linearise == "initial" or self.scale == "trapezium"):
            raise NotPreparedError(
                "ntk-f with linearise='initial' or scale='trapezium' needs the weights that training started from, "
                "which this artifact lacks; train with --method ntk-f, or leave both at their defaults"
            )
        if self._needs_head(artifact):
            try:
                head_parameters(artifact.model, split.data.input_shape)
            except InputError as error:
                raise InputError(f"ntk-f: {error} Or use ssd; or parameters='all' with noise=0") from None

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy with shifted, slightly noisy weights."""
        model = run.copied(artifact.model).eval()
        own = head_parameters(model, split.data.input_shape) if self._needs_head(artifact) else frozenset()
        prefix = next(iter(own)).rpartition(".")[0] if self._head_only(artifact) else ""
        moving = model.get_submodule(prefix)  # the head, fed with its features, or the model itself
        retain, forget = (_inputs(model, prefix, part, run) for part in (split.retain, split.forget))
        solver = self._solver(moving, split)
        # Single precision is enough to iterate with and many times faster; a head is cheap either way.
        here = Linearisation(moving, dtype=torch.float32 if solver == "cg" and not prefix else torch.float64)
        start = self._start(here, artifact, prefix)
        problem = self._problem(moving, here, start, artifact)
        found = displacements(problem, retain, forget, solver, self.iterations, self.tolerance, run.track)
        shift = found.retain - found.full
        scale = trapezium(found, here.weights() - start) if self.scale == "trapezium" else float(self.scale)
        gap = here.gap(scale * shift, [x for x, _ in forget])
        run.history.add("ntk-f", shift=float(shift.norm()), scale=scale, gap=gap, residual=found.residual)
        if found.residual > max(self.tolerance, 1e-6):
            run.note(f"ntk-f: conjugate gradients stopped at a relative residual of {found.residual:.1e}")
        if gap > self.largest_gap:
            raise InputError(
                f"ntk-f: the network is not linear over this shift (gap {gap:.2f} of {self.largest_gap:g} allowed), so "
                "the result would mean nothing; use parameters='head', train with --method ntk-f, or use fine-tune"
            )
        here.write(moving, here.weights() + scale * shift)
        if self.noise > 0:
            single = ((x.float(), y) for x, y in retain)
            fisher = fisher_diagonal(moving, single, estimator="true").mean()
            local = {name.removeprefix(f"{prefix}.") for name in own}
            add_noise(moving, NoiseRule(self.noise).variances(fisher, local), run.generator("ntk-f/noise"))
        return model

    def _needs_head(self, artifact: Artifact) -> bool:
        return self._head_only(artifact) or self.noise > 0

    def _head_only(self, artifact: Artifact) -> bool:
        return self.parameters == "head" or (self.parameters == "auto" and "ntkf/mu" not in artifact.memory)

    def _start(self, here: Linearisation, artifact: Artifact, prefix: str) -> Tensor:
        """Return the ridge's centre: w₀ where it was kept, 0 (plain weight decay) where not."""
        if "ntkf/mu" not in artifact.memory:
            return torch.zeros_like(here.weights())
        return here.flat({n: artifact.memory[_START + f"{prefix}.{n}".lstrip(".")] for n in here.parameters})

    def _problem(self, model: nn.Module, here: Linearisation, start: Tensor, artifact: Artifact) -> RidgeProblem:
        """Return the linearised loss at the point, and around the centre, that `linearise` asks for."""
        kept = artifact.memory.get("ntkf/mu")
        trained_with = artifact.record.recipe.weight_decay if kept is None else float(kept)
        mu = trained_with if self.mu is None else self.mu
        if self.linearise == "trained":
            return RidgeProblem(here, mu, here.weights() - start, self.hessian)
        if self.linearise == "initial":
            model = copy.deepcopy(model)
            here.write(model, start)
            here = Linearisation(model, here.parameters, here.dtype)
        return RidgeProblem(here, mu, torch.zeros_like(start), self.hessian)

    def _solver(self, moving: nn.Module, split: Split) -> Solver:
        if self.solver != "auto":
            return self.solver
        size = sum(p.numel() for p in moving.parameters() if p.requires_grad)
        rows = (len(split.retain) + len(split.forget)) * len(split.data.classes)
        if min(rows, size) > _DIRECT:
            return "cg"
        return "primal" if size <= rows else "dual"


def _inputs(model: nn.Module, prefix: str, part: Part, run: Run) -> list[tuple[Tensor, Tensor]]:
    """Return a part's (inputs, labels) in batches, or (float64 features, labels) of the head of that name."""
    if not prefix:
        return list(part.batches(Epoch(256, device=run.device)))
    found = [(features(model, x, prefix).detach().double(), y) for x, y in part.batches(Epoch(1024, device=run.device))]
    x, y = (torch.cat(column) for column in zip(*found, strict=True))
    return list(zip(x.split(4096), y.split(4096), strict=True))
