"""Certified removal: a perturbed linear head whose records can be removed by a Newton step with a guarantee."""

from __future__ import annotations

import math
import secrets
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import Record
from efface.data import Part, Split
from efface.errors import InputError
from efface.methods.certified_removal.certificate import (
    budget,
    official_bound,
    spectral_norm,
    spent_epsilon,
    tight_bound,
    worst_case,
)
from efface.methods.certified_removal.logistic import WIDEST, Logistic, minimise, newton_removal
from efface.methods.method import Expense, Method, Needs, need_memory
from efface.models.head import head, head_of, zero_inputs
from efface.models.predictions import features_of
from efface.models.unit_head import UnitHead, with_unit_head
from efface.running.run import Run
from efface.training.recipe import Recipe
from efface.words import counted

__all__ = ["CertifiedRemoval"]

HOW = "train with `efface train --method certified-removal` (--from FEATURES for an imported extractor), or use retrain"

WEIGHTS, NOISE, SPENT, TERMS = (f"certified/{k}" for k in ("weights", "noise", "spent", "terms"))

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FlatInputs(nn.Module):
    """Inputs less a constant, flattened: (N, ...) -> (N, d)."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        """Return x - shift as rows."""
        return x.flatten(1) - self.shift


@dataclass(frozen=True)
class CertifiedRemoval(Method):
    """Remove records from a perturbed linear head by one Newton step, with an (ε, δ) guarantee that is accounted for.

    Training, one class against the rest on features of unit length (two classes: one problem), b ~ N(0, σ² I) secret:
        w_k = argmin Σ_i ℓ(y_i wᵀx_i) + (λn/2)‖w‖² + b_kᵀw,   ℓ(z) = -log σ(z), in float64 to rounding.
    Removing m records: w ← w + H⁻¹g, g their gradients (m λ w included), H over what remains, leaves a gradient of norm
    at most β = ¼ ‖X'‖₂ ‖H⁻¹g‖ ‖X'H⁻¹g‖. Σβ over removals and problems (and what training and solver left) may reach
    σε/c, c = √(2 ln(1.5 K/δ)); a request that would exceed it is refused, or the head is trained anew with a fresh b.
    Head only: the layers below must never have seen this data. n ≳ 10⁴ or a large λ is needed. Requests chosen after
    seeing the model, and tuning on this data, are not covered. The memory holds b: hand on model.safetensors alone.

    Source: Guo, Goldstein, Hannun, van der Maaten, ICML 2020 (arXiv 1911.03030). Ours: leftovers charged, `tight`.

    Attributes:
        features: Training: `layers` (what enters the model's head, as they are) or `inputs` (the model is not used).
        shift: Training: subtracted from `inputs` (MNIST pixels: 0.5).
        lam: Training: λ.
        sigma: Training: σ.
        noise: Training: b from the system's `secret` randomness, or from the `run`'s seed, which the record holds.
        epsilon: Removal: ε of all removals together.
        delta: δ of all problems together.
        tight: Removal: charge ½ max|ℓ'''| ‖X'‖₂ (Σ(x_iᵀH⁻¹g)⁴)^½, at least 5 times smaller.
        when_spent: Removal: `refuse`, or `retrain` the head.
    """

    features: Literal["layers", "inputs"] = "layers"
    shift: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    lam: Positive = 1e-3
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    noise: Literal["secret", "run"] = "secret"
    epsilon: Positive = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    tight: bool = False
    when_spent: Literal["refuse", "retrain"] = "refuse"

    name: ClassVar[str] = "certified-removal"
    needs: ClassVar[Needs] = Needs(
        targets=("items",), forget=True, retain=True, prepared="a perturbed linear head on fixed features"
    )
    cost: ClassVar[str] = "O(N d² + d³ + I N K d), I CG iterations, no epochs"
    memory: ClassVar[str] = "2 P, N d float64 features and d² of the factor"
    expense: ClassVar[Expense] = "gradients"
    at_training: ClassVar[tuple[str, ...]] = ("features", "shift", "lam", "sigma", "noise")
    source: ClassVar[str] = "arXiv 1911.03030"

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Fit the perturbed head; the layers below it stay, and the recipe is not used."""
        shape, classes = split.data.input_shape, len(split.data.classes)
        model, made = self._architecture(model, shape, classes, run.device)
        width, problems = made.linear.in_features, _problems(classes)
        if width > WIDEST:
            raise InputError(f"certified-removal factorises a matrix of d = {width} features; at most {WIDEST}")
        x, signs = _features(model, split.retain, classes)
        b = self.sigma * torch.randn(problems, width, generator=self._generator(run), dtype=torch.float64)
        terms = torch.tensor([self.lam, self.sigma], dtype=torch.float64)
        w, left = minimise(Logistic(x, signs, self.lam, b.to(x.device)))
        _write(made, w)
        run.note(
            "certified-removal: head only; the guarantee covers the model if the layers below never saw this data"
            if self.features == "layers"
            else "certified-removal: the model is a linear classifier of the inputs; the network given is not used"
        )
        if self.noise == "run":
            run.note("certified-removal: b comes from the recorded seed, so the guarantee does not hold for its reader")
        self._account(run, left, self.sigma, "trained")
        return model, {WEIGHTS: w.cpu(), NOISE: b, SPENT: left.cpu(), TERMS: terms}

    def rebuild(self, model: nn.Module, record: Record) -> nn.Module:
        """Return the network with the head on features of unit length."""
        if record.action != "train":
            return model
        device = next(model.parameters()).device
        return self._architecture(model, record.data.input_shape, len(record.data.classes), device)[0]

    def check_start(self, parent: Artifact) -> None:
        """Raise if the layers below the head were trained on this very data: their guarantee would be void."""
        saw = [r.method for r in parent.record.chain if r.action != "given" and r.method != self.name]
        if saw and self.features == "layers":
            raise InputError(
                f"the layers of this artifact were trained on this very data ({', '.join(saw)}), and what they know of "
                "a record would stay: no certificate of the head covers them. Import a network that was trained on "
                "other, public data (efface import WEIGHTS ... --out FEATURES, then --from FEATURES), or set "
                "features=inputs, or use sisa"
            )

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if no certified head was trained, or something else has changed the model since."""
        need_memory(artifact, WEIGHTS, self, HOW)
        steps = [r.method for r in artifact.record.chain]
        after = steps[steps.index(self.name) :] if self.name in steps else steps
        if other := [name for name in after if name != self.name]:
            raise InputError(
                f"{other[0]} has changed this model since its head was certified, so the features are not fixed and "
                f"the guarantee is void; forget from the artifact before that, or {HOW}"
            )
        if artifact.memory[WEIGHTS].shape[1] != _linear(artifact.model, split).in_features:
            raise InputError("the model's head does not fit the certified weights; load the artifact as it was saved")

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy with the moved head; see `forget_and_keep`."""
        return self.forget_and_keep(artifact, split, run)[0]

    def forget_and_keep(self, artifact: Artifact, split: Split, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Move the head by H⁻¹g, charge what that leaves, and keep weights and account in float64.

        Raises:
            InputError: The budget does not cover this request, and `when_spent` is `refuse`; or the head is frozen.
        """
        model = run.copied(artifact.model).eval()
        linear, classes = _linear(model, split), len(split.data.classes)
        if not linear.weight.requires_grad:
            raise InputError("certified-removal moves the head, whose weight is frozen (requires_grad); unfreeze it")
        lam, sigma = artifact.memory[TERMS].tolist()
        (x, signs), (gone_x, gone_signs) = (_features(model, p, classes) for p in (split.retain, split.forget))
        w, b = (artifact.memory[k].to(x.device) for k in (WEIGHTS, NOISE))
        kept = Logistic(x, signs, lam, b)
        step, unsolved = newton_removal(kept, Logistic(gone_x, gone_signs, lam, b), w)
        answers, norm = x @ step.T, spectral_norm(kept.gram)
        bound = tight_bound(norm, answers) if self.tight else official_bound(norm, step, answers)
        # What is left, looked at itself: features of one image may differ in the last bit from batch to batch.
        residual = kept.gradient(w + step).norm(dim=1)
        spent = torch.maximum(artifact.memory[SPENT].to(x.device) + bound + unsolved, residual)
        run.history.add(
            "certified-removal/removal",
            removed=len(gone_x),
            bound=float(bound.sum()),
            residual=float(residual.sum()),
            unsolved=float(unsolved.sum()),
            worst_case=worst_case(len(gone_x), lam, len(x)) * len(w),
        )
        memory = {**artifact.memory, WEIGHTS: (w + step).cpu(), SPENT: spent.cpu()}
        if self._epsilon(spent, sigma) > self.epsilon:
            memory = {**memory, **self._anew(kept, sigma, spent, run)}
        _write_linear(linear, memory[WEIGHTS].to(linear.weight.device))
        self._account(run, memory[SPENT], sigma, f"{counted(len(gone_x), 'record')} removed")
        return model, memory

    def _anew(self, kept: Logistic, sigma: float, spent: Tensor, run: Run) -> dict[str, Tensor]:
        """Train the head again on what remains with a fresh b, or refuse."""
        wanted = self._epsilon(spent, sigma)
        if self.when_spent == "refuse":
            raise InputError(
                f"the certificate does not cover this request: epsilon would be {wanted:.3g}, allowed are "
                f"{self.epsilon:g} at delta {self.delta:g}. Nothing was changed. Retrain the head with "
                "when_spent=retrain, or train it with a larger lam or sigma, or on more data"
            )
        b = sigma * torch.randn(kept.noise.shape, generator=self._generator(run), dtype=torch.float64)
        w, left = minimise(Logistic(kept.x, kept.signs, kept.lam, b.to(kept.x.device)))
        run.note(f"certified-removal: epsilon would be {wanted:.3g}; the head was trained anew with fresh noise")
        return {WEIGHTS: w.cpu(), NOISE: b, SPENT: left.cpu()}

    def _epsilon(self, spent: Tensor, sigma: float) -> float:
        return spent_epsilon(float(spent.sum()), sigma, self.delta, len(spent))

    def _account(self, run: Run, spent: Tensor, sigma: float, what: str) -> None:
        """Write the account into history and notes."""
        total, problems = float(spent.sum()), len(spent)
        epsilon, allowed = self._epsilon(spent, sigma), budget(sigma, self.epsilon, self.delta, problems)
        row = {"spent": total, "budget": allowed, "delta": self.delta}
        run.history.add("certified-removal", **row, **({"epsilon": epsilon} if math.isfinite(epsilon) else {}))
        run.note(
            f"certified-removal: {what}; residual {total:.3g} of {allowed:.3g} spent, epsilon {epsilon:.3g} of "
            f"{self.epsilon:g} at delta {self.delta:g} over {problems} problems"
        )

    def _generator(self, run: Run) -> torch.Generator:
        if self.noise == "run":
            return run.generator("certified-removal/noise")
        return torch.Generator().manual_seed(secrets.randbits(63))

    def _architecture(
        self, model: nn.Module, shape: tuple[int, ...], classes: int, device: torch.device
    ) -> tuple[nn.Module, UnitHead]:
        if self.features == "layers":
            return with_unit_head(model, zero_inputs(model, shape))
        made = UnitHead(torch.zeros(classes, math.prod(shape), device=device))
        return nn.Sequential(FlatInputs(self.shift), made), made


def _problems(classes: int) -> int:
    return 1 if classes == 2 else classes


def _linear(model: nn.Module, split: Split) -> nn.Linear:
    return head_of(model, split.data.input_shape)[1]


def _features(model: nn.Module, part: Part, classes: int) -> tuple[Tensor, Tensor]:
    """Return the unit-length features (n, d) in float64 and the labels' signs (n, P)."""
    device = next(model.parameters()).device
    x, _ = part.take([0]).tensors(device)
    name, _ = head(model, x)
    rows = nn.functional.normalize(features_of(model, part, name).to(device).double(), dim=1)
    labels = part.labels.to(device)
    if classes == 2:
        return rows, (2.0 * labels.double() - 1)[:, None]
    return rows, 2 * nn.functional.one_hot(labels, classes).double() - 1


def _write(made: UnitHead, w: Tensor) -> None:
    _write_linear(made.linear, w)


def _write_linear(linear: nn.Linear, w: Tensor) -> None:
    """Write the weights, rounded to the model's precision: after the guarantee, which rounding cannot weaken."""
    with torch.no_grad():
        linear.weight.copy_(torch.cat([-w, w]) / 2 if len(w) == 1 else w)
