"""Several perturbed logistic regressions on the same features, solved to rounding in float64.

    L_k(w) = sum_i l(y_ik w^T x_i) + (lambda n / 2) ‖w‖² + b_k^T w,    l(z) = log(1 + e^{-z})

Source: Guo, Goldstein, Hannun, van der Maaten, ICML 2020 (arXiv 1911.03030), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["WIDEST", "Logistic", "minimise", "newton_removal", "solve"]

WIDEST = 8192
"""Features up to which a d x d matrix is factorised."""


@dataclass(frozen=True, eq=False)
class Logistic:
    """P problems on n samples of d features.

    Attributes:
        x: Features (n, d), float64, rows of norm at most 1.
        signs: y in {-1, 1}, (n, P).
        lam: lambda.
        noise: b (P, d).
    """

    x: Tensor
    signs: Tensor
    lam: float
    noise: Tensor

    @cached_property
    def gram(self) -> Tensor:
        """X^T X (d, d)."""
        return self.x.T @ self.x

    @property
    def ridge(self) -> float:
        """Lambda n."""
        return self.lam * len(self.x)

    def value(self, w: Tensor) -> Tensor:
        """Return L_k(w_k), (P,), for w (P, d)."""
        losses = F.softplus(-self.signs * (self.x @ w.T)).sum(0)
        return losses + 0.5 * self.ridge * w.square().sum(1) + (self.noise * w).sum(1)

    def gradient(self, w: Tensor) -> Tensor:
        """Return the gradient of every problem, (P, d)."""
        return self.pull(w) + self.ridge * w + self.noise

    def pull(self, w: Tensor) -> Tensor:
        """Return sum_i (sigma(z_i) - 1) y_i x_i, (P, d): the data's part of the gradient."""
        slopes = -torch.sigmoid(-self.signs * (self.x @ w.T)) * self.signs
        return slopes.T @ self.x

    def curvatures(self, w: Tensor) -> Tensor:
        """Return sigma(z)(1 - sigma(z)), (n, P)."""
        s = torch.sigmoid(self.x @ w.T)
        return s * (1 - s)

    def product(self, curvatures: Tensor, v: Tensor) -> Tensor:
        """Return H_k v_k, (P, d), without building H."""
        return (curvatures * (self.x @ v.T)).T @ self.x + self.ridge * v

    def majorant(self) -> Tensor:
        """Return the Cholesky factor (d, d) of X^T X / 4 + lambda n I, which no Hessian of these problems exceeds."""
        above = self.gram / 4
        above.diagonal().add_(self.ridge)
        return torch.linalg.cholesky(above)


def solve(
    problem: Logistic, curvatures: Tensor, right: Tensor, factor: Tensor, tolerance: float = 1e-12, most: int = 500
) -> tuple[Tensor, Tensor]:
    """Solve H_k v_k = right_k for all problems at once by conjugate gradients, preconditioned by the majorant.

    Args:
        problem: Gives H.
        curvatures: At the point where H is taken.
        right: (P, d).
        factor: From `majorant`.
        tolerance: Residual norm, relative to the right side's, at which a problem is done.
        most: Most iterations.

    Returns:
        v (P, d), and ‖right_k - H_k v_k‖ (P,), computed anew: what the solution leaves.
    """
    v, r = torch.zeros_like(right), right.clone()
    aim = tolerance * right.norm(dim=1)
    z = torch.cholesky_solve(r.T, factor).T
    p, rz = z.clone(), (r * z).sum(1)
    for _ in range(most):
        active = r.norm(dim=1) > aim
        if not bool(active.any()):
            break
        hp = problem.product(curvatures, p)
        step = torch.where(active, rz / (p * hp).sum(1).clamp(min=1e-300), 0.0)[:, None]
        v, r = v + step * p, r - step * hp
        z = torch.cholesky_solve(r.T, factor).T
        last, rz = rz, (r * z).sum(1)
        p = z + (rz / last.clamp(min=1e-300))[:, None] * p
    return v, (right - problem.product(curvatures, v)).norm(dim=1)


def minimise(problem: Logistic, tolerance: float = 1e-8, most: int = 100) -> tuple[Tensor, Tensor]:
    """Return the minimisers (P, d), by damped Newton steps, and the gradient norms (P,) that are left.

    Args:
        problem: What to minimise.
        tolerance: Gradient norm of the sum at which a problem is done.
        most: Most steps.
    """
    w = torch.zeros_like(problem.noise)
    factor, value = problem.majorant(), problem.value(w)
    for _ in range(most):
        gradient = problem.gradient(w)
        if float(gradient.norm(dim=1).max()) <= tolerance:
            break
        v, _ = solve(problem, problem.curvatures(w), -gradient, factor, tolerance=1e-6)
        step = torch.ones_like(value)
        for _ in range(40):
            found = problem.value(w + step[:, None] * v)
            worse = found > value + 1e-12 * value.abs()
            if not bool(worse.any()):
                break
            step = torch.where(worse, step / 2, step)
        w, value = w + step[:, None] * v, found
    return w, problem.gradient(w).norm(dim=1)


def newton_removal(kept: Logistic, gone: Logistic, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return H⁻¹g (P, d), the step that takes records out of the minimisers, and ‖g - H H⁻¹g‖ (P,).

    Args:
        kept: The records that remain; gives H at w.
        gone: The m records to remove; g is the sum of their gradients, m lambda w included.
        w: The minimisers on both together (P, d).
    """
    g = gone.pull(w) + gone.ridge * w
    return solve(kept, kept.curvatures(w), g, kept.majorant())
