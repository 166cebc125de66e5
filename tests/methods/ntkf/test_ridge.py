"""Displacements of linearised minimisers: closed forms on linear models (NTK sheet, checks 1, 2, 4 and 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efface.curvature.jacobian import Linearisation
from efface.errors import InputError
from efface.methods.ntkf.ridge import RidgeProblem, displacements

N, FORGET, INPUTS, OUTPUTS = 30, 6, 40, 3
SOLVERS = ("primal", "dual", "cg")


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def data(kind: str, size: int = N) -> tuple[Tensor, Tensor]:
    draw = draws()
    x = torch.randn(size, INPUTS, generator=draw, dtype=torch.float64)
    if kind == "values":
        return x, torch.randn(size, OUTPUTS, generator=draw, dtype=torch.float64)
    return x, torch.randint(0, OUTPUTS, (size,), generator=draw)


def linear(weights: Tensor) -> nn.Linear:
    model = nn.Linear(INPUTS, OUTPUTS, bias=False).double().eval()
    with torch.no_grad():
        model.weight.copy_(weights)
    return model


def squares_minimum(x: Tensor, y: Tensor, ridge: float, centre: Tensor) -> Tensor:
    """Minimise Σ ½‖Wx - y‖² + ½ n μ ‖W - W₀‖² by its normal equations."""
    system = x.T @ x + len(x) * ridge * torch.eye(INPUTS, dtype=x.dtype)
    return torch.linalg.solve(system, x.T @ y + len(x) * ridge * centre.T).T


def logistic_minimum(x: Tensor, y: Tensor, ridge: float, centre: Tensor) -> Tensor:
    """Minimise Σ CE + ½ n μ ‖W - W₀‖² to rounding by L-BFGS."""
    w = centre.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(x @ w.T, y) + 0.5 * ridge * (w - centre).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return w.detach()


class SquaredError(RidgeProblem):
    """The squared error: e = f - y for targets y (b, K)."""

    def residual(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        f = self.at.logits(x)
        return f - y, f.softmax(1)


def pairs(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(7), y.split(7), strict=True))


def start() -> Tensor:
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS)
def test_1_linear_squares_reproduce_the_retrained_weights(solver: Any) -> None:
    x, y = data("values")
    ridge, centre = 0.01, start()
    w = squares_minimum(x, y, ridge, centre)
    retrained = squares_minimum(x[FORGET:], y[FORGET:], ridge, centre)
    forget, retain = pairs(x[:FORGET], y[:FORGET]), pairs(x[FORGET:], y[FORGET:])

    def shift(model: nn.Linear, offset: Tensor) -> Tensor:
        problem = SquaredError(Linearisation(model), ridge, offset.flatten(), hessian=False)
        found = displacements(problem, retain, forget, solver, tolerance=1e-12)
        return (found.retain - found.full).view_as(w)

    trained = shift(linear(w), w - centre)  # choice (ii)
    initial = shift(linear(centre), torch.zeros_like(w))  # choice (i)
    official = shift(linear(w), torch.zeros_like(w))  # residuals at w, ridge around w
    torch.testing.assert_close(w + trained, retrained, rtol=0, atol=1e-8)
    torch.testing.assert_close(w + initial, retrained, rtol=0, atol=1e-8)
    # Fitted data leaves residuals of the order of the ridge, so the notebook's shift is far too short.
    assert float((retrained - w).norm() / official.norm()) > 5


@pytest.mark.parametrize("solver", SOLVERS)
def test_2_forgetting_nothing_moves_nothing(solver: Any) -> None:
    x, y = data("classes")
    problem = RidgeProblem(Linearisation(linear(start())), 0.1, start().flatten() - 0.3, hessian=True)
    found = displacements(problem, pairs(x, y), [], solver)
    assert torch.equal(found.retain, found.full)


def test_2_two_at_once_equal_one_after_the_other() -> None:
    x, y = data("values")
    ridge, centre = 0.05, start()
    w = squares_minimum(x, y, ridge, centre)

    def step(weights: Tensor, forget: slice, retain: slice) -> Tensor:
        offset = (weights - centre).flatten()
        problem = SquaredError(Linearisation(linear(weights)), ridge, offset, hessian=False)
        found = displacements(problem, pairs(x[retain], y[retain]), pairs(x[forget], y[forget]), "dual")
        return weights + (found.retain - found.full).view_as(weights)

    together = step(w, slice(0, 4), slice(4, None))
    apart = step(step(w, slice(0, 2), slice(2, None)), slice(2, 4), slice(4, None))
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-10)


def test_1_one_shot_form_for_equal_ridges() -> None:
    """Δ = Π J_fᵀ M (e_f - K_fr K_rr⁻¹ e_r): the same by block elimination, with one ridge in both systems."""
    draw = draws()
    j_r, j_f = (torch.randn(n, 40, generator=draw, dtype=torch.float64) for n in (12, 5))
    e_r, e_f = (torch.randn(n, generator=draw, dtype=torch.float64) for n in (12, 5))
    ridge, rows = 0.7, torch.cat([j_r, j_f])
    k_rr = j_r @ j_r.T + ridge * torch.eye(12, dtype=torch.float64)
    two = rows.T @ torch.linalg.solve(
        rows @ rows.T + ridge * torch.eye(17, dtype=torch.float64), torch.cat([e_r, e_f])
    ) - j_r.T @ torch.linalg.solve(k_rr, e_r)
    k_fr = j_f @ j_r.T
    m = torch.linalg.inv(
        j_f @ j_f.T + ridge * torch.eye(5, dtype=torch.float64) - k_fr @ torch.linalg.solve(k_rr, k_fr.T)
    )
    inner = j_f.T @ m @ (e_f - k_fr @ torch.linalg.solve(k_rr, e_r))
    torch.testing.assert_close(two, inner - j_r.T @ torch.linalg.solve(k_rr, j_r @ inner), rtol=0, atol=1e-10)


@pytest.mark.parametrize("hessian", [False, True])
@pytest.mark.parametrize("ridge", [1e-2, 0.1])
def test_4_all_solvers_agree(hessian: bool, ridge: float) -> None:
    x, y = data("classes")
    with torch.no_grad():
        model = nn.Sequential(nn.Linear(INPUTS, 5), nn.Tanh(), nn.Linear(5, OUTPUTS)).double().eval()
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draws(), dtype=torch.float64))
    at = Linearisation(model)
    problem = RidgeProblem(at, ridge, 0.1 * torch.randn(at.size, generator=draws(), dtype=torch.float64), hessian)
    primal, dual, cg = (
        displacements(problem, pairs(x[4:], y[4:]), pairs(x[:4], y[:4]), solver, 2000, 1e-7)  # type: ignore[arg-type]
        for solver in SOLVERS
    )
    for a in ("retain", "full"):
        scale = float(getattr(primal, a).norm())
        torch.testing.assert_close(getattr(dual, a), getattr(primal, a), rtol=0, atol=1e-7 * scale)
        torch.testing.assert_close(getattr(cg, a), getattr(primal, a), rtol=0, atol=1e-4 * scale)


def test_5_logistic_regression_needs_the_hessian() -> None:
    x, y = data("classes", 300)
    ridge, centre = 0.02, torch.zeros(OUTPUTS, INPUTS, dtype=torch.float64)
    w, retrained = logistic_minimum(x, y, ridge, centre), logistic_minimum(x[1:], y[1:], ridge, centre)
    errors = []
    for hessian in (True, False):
        problem = RidgeProblem(Linearisation(linear(w)), ridge, (w - centre).flatten(), hessian)
        found = displacements(problem, pairs(x[1:], y[1:]), pairs(x[:1], y[:1]), "primal")
        shift = (found.retain - found.full).view_as(w)
        errors.append(float((shift - (retrained - w)).norm() / (retrained - w).norm()))
    assert errors[0] < 0.05 < errors[1]


def test_without_a_ridge_the_systems_stay_solvable() -> None:
    x, y = data("values", 100)
    problem = SquaredError(Linearisation(linear(start())), 0.0, start().flatten(), hessian=False)
    for solver in ("primal", "dual"):
        found = displacements(problem, pairs(x[6:], y[6:]), pairs(x[:6], y[:6]), solver)  # type: ignore[arg-type]
        expected = squares_minimum(x, y, 0.0, start())
        torch.testing.assert_close(start() + found.full.view(OUTPUTS, INPUTS), expected, rtol=0, atol=1e-4)


def test_a_hopeless_system_is_refused() -> None:
    x, y = data("values")
    problem = SquaredError(Linearisation(linear(start())), 1.0, start().flatten(), hessian=False)
    with pytest.raises(InputError, match="not positive definite"):
        displacements(replace(problem, ridge=-100.0), pairs(x[6:], y[6:]), pairs(x[:6], y[:6]), "primal")
