"""Where the minimiser of a linearised, ridge-regularised loss lies: exactly by a Gram or normal matrix, or iterated.

For a set S of n samples, logits f + J δ and a ridge around w₀ = w - o:

    minimise over δ   Σ_i loss_i(f_i + J_i δ) + ½ n μ ‖o + δ‖²
    (JᵀHJ + n μ I) δ = -(Jᵀ e + n μ o)

with e = softmax(f) - onehot the loss's gradient in the logits, and H its Hessian: diag(p) - p pᵀ for the cross-entropy,
or the identity (the system of the squared error). Source: Golatkar et al., ECCV 2020 (arXiv 2003.02960).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from efface.curvature.jacobian import Linearisation
from efface.errors import InputError

__all__ = ["Displacements", "RidgeProblem", "Solver", "displacements", "trapezium"]

Solver = Literal["primal", "dual", "cg"]

Pairs = Sequence[tuple[Tensor, Tensor]]

Track = Callable[[Iterable[int], str, int], Iterable[int]]

_BLOCK = 2**26  # numbers of Jacobian rows held at once: 512 MiB


def _untracked(items: Iterable[int], label: str, total: int) -> Iterable[int]:
    return items


@dataclass(frozen=True)
class RidgeProblem:
    """A linearised loss.

    Attributes:
        at: The model as a linear function of its weights.
        ridge: μ, counted once per sample.
        offset: o (P,): the weights minus the ridge's centre.
        hessian: Use the cross-entropy's Hessian in the logits; otherwise the identity.
    """

    at: Linearisation
    ridge: float
    offset: Tensor
    hessian: bool

    def residual(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return e = softmax(f) - onehot(y) and p = softmax(f), both (b, K)."""
        f = self.at.logits(x)
        p = f.softmax(1)
        return p - torch.nn.functional.one_hot(y, f.shape[1]).double(), p

    def curved(self, p: Tensor, v: Tensor) -> Tensor:
        """Return H v for v (b, K, ...)."""
        if not self.hessian:
            return v
        p = p.view(*p.shape, *([1] * (v.ndim - 2)))
        return p * v - p * (p * v).sum(1, keepdim=True)


@dataclass(frozen=True)
class Displacements:
    """Minimisers minus the present weights, and how well the systems were solved.

    Attributes:
        retain: δ over the kept data (P,).
        full: δ over all data (P,).
        residual: The larger relative residual of the two solves.
        iterations: Of conjugate gradients, both solves together; 0 for the direct ones.
    """

    retain: Tensor
    full: Tensor
    residual: float
    iterations: int = 0


def displacements(
    problem: RidgeProblem,
    retain: Pairs,
    forget: Pairs,
    solver: Solver,
    iterations: int = 200,
    tolerance: float = 1e-8,
    track: Track = _untracked,
) -> Displacements:
    """Return the displacement of the minimiser over the kept data and over all of it.

    Args:
        problem: The linearised loss.
        retain: Batches of kept data on the model's device.
        forget: Batches of the data to forget; may be empty, and then both displacements are equal.
        solver: `primal` (P, P) normal matrix; `dual` (nK, nK) Gram matrix; `cg` conjugate gradients, O(P) memory.
        iterations: Most steps of conjugate gradients, for each solve.
        tolerance: Relative residual at which they stop.
        track: Shows the progress of their steps, as `Run.track` does.

    Raises:
        InputError: A direct system is singular or too ill-conditioned.
    """
    if solver == "cg":
        return _iterated(problem, retain, forget, iterations, tolerance, track)
    return (_primal if solver == "primal" else _dual)(problem, retain, forget)


def trapezium(found: Displacements, offset: Tensor) -> float:
    """Return the factor by which the published notebook lengthens a shift Δ = δ_r - δ_D that is too short.

    With a = w - w₀ - δ_r and φ the angle between Δ and a:
    s = (‖Δ‖ + 2 sin(φ - π/2) ‖a‖) / ‖Δ‖ where cos φ < 0, else (‖Δ‖ + 2 cos φ ‖a‖) / ‖Δ‖; that is, in both cases,
    s = 1 + 2 |cos φ| ‖a‖ / ‖Δ‖.

    A heuristic that happened to fit: for a consistent linearisation the right factor is 1.

    Args:
        found: Displacements of both minimisers.
        offset: w - w₀ (P,).
    """
    shift, away = found.retain - found.full, offset - found.retain
    length = float(shift.norm())
    if length == 0:
        return 1.0
    along = abs(float(shift.dot(away))) / length  # |cos φ| ‖a‖
    return 1 + 2 * along / length


def _blocks(problem: RidgeProblem, pairs: Pairs) -> list[tuple[Tensor, Tensor]]:
    """Cut batches so that the Jacobian rows of one piece stay within memory."""
    found = []
    for x, y in pairs:
        width = problem.at.logits(x[:1]).shape[1] * problem.at.size
        step = max(1, _BLOCK // width)
        found += list(zip(x.split(step), y.split(step), strict=True))
    return found


def _primal(problem: RidgeProblem, retain: Pairs, forget: Pairs) -> Displacements:
    at, count = problem.at, 0
    matrix = problem.offset.new_zeros(at.size, at.size)
    gradient = torch.zeros_like(problem.offset)
    found, worst = [], 0.0
    for pairs in (retain, forget):
        for x, y in _blocks(problem, pairs):
            rows = at.rows(x)
            e, p = problem.residual(x, y)
            matrix.addmm_(rows.flatten(0, 1).T, problem.curved(p, rows).flatten(0, 1))
            gradient.addmv_(rows.flatten(0, 1).T, e.flatten())
            count += len(x)
        ridge = count * problem.ridge or _jitter(matrix)
        system = matrix + ridge * torch.eye(at.size, dtype=matrix.dtype, device=matrix.device)
        rhs = -(gradient + count * problem.ridge * problem.offset)
        solution, residual = _cholesky(system, rhs)
        found.append(solution)
        worst = max(worst, residual)
    return Displacements(found[0], found[1], worst)


def _dual(problem: RidgeProblem, retain: Pairs, forget: Pairs) -> Displacements:
    at = problem.at
    kept, gone = _blocks(problem, retain), _blocks(problem, forget)
    blocks = kept + gone
    offset = problem.offset if problem.ridge > 0 else torch.zeros_like(problem.offset)
    residuals, probabilities = zip(*(problem.residual(x, y) for x, y in blocks), strict=True)
    moved = [
        e - problem.curved(p, at.times(x, offset))
        for (x, _), e, p in zip(blocks, residuals, probabilities, strict=True)
    ]
    gram = _gram(problem, blocks)
    if problem.hessian:
        p = torch.cat(probabilities)
        gram = problem.curved(p, gram.view(*p.shape, -1)).reshape(gram.shape)
    rhs, classes = torch.cat(moved).flatten(), residuals[0].shape[1]
    kept_samples, all_samples = sum(len(x) for x, _ in kept), sum(len(x) for x, _ in blocks)
    found, worst = [], 0.0
    for chosen, n in ((kept, kept_samples), (blocks, all_samples)):
        system = gram[: n * classes, : n * classes].clone()
        system.diagonal().add_(n * problem.ridge or _jitter(system))
        solution, residual = (_lu if problem.hessian else _cholesky)(system, rhs[: n * classes])
        worst = max(worst, residual)
        u = solution.view(n, classes).split([len(x) for x, _ in chosen])
        found.append(-offset - torch.stack([at.transposed(x, v) for (x, _), v in zip(chosen, u, strict=True)]).sum(0))
    return Displacements(found[0], found[1], worst)


def _gram(problem: RidgeProblem, blocks: Pairs) -> Tensor:
    """Return J Jᵀ (nK, nK) by pairs of blocks; the Jacobian is kept only where it fits into memory as a whole."""
    at = problem.at
    classes = at.logits(blocks[0][0][:1]).shape[1]
    sizes = [len(x) * classes for x, _ in blocks]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    gram = problem.offset.new_zeros(sum(sizes), sum(sizes))
    fits = sum(sizes) * at.size <= 2 * _BLOCK
    held = [at.rows(x).flatten(0, 1) for x, _ in blocks] if fits else []
    for i, (x, _) in enumerate(blocks):
        mine = held[i] if fits else at.rows(x).flatten(0, 1)
        for j in range(i + 1):
            other = mine if i == j else held[j] if fits else at.rows(blocks[j][0]).flatten(0, 1)
            a, b = slice(starts[i], starts[i] + sizes[i]), slice(starts[j], starts[j] + sizes[j])
            gram[a, b] = mine @ other.T
            gram[b, a] = gram[a, b].T
    return gram


def _iterated(
    problem: RidgeProblem, retain: Pairs, forget: Pairs, iterations: int, tolerance: float, track: Track
) -> Displacements:
    at, worst, steps = problem.at, 0.0, 0
    found: list[Tensor] = []
    for pairs in (retain, [*retain, *forget]) if forget else (retain,):
        count = sum(len(x) for x, _ in pairs)
        rhs = -count * problem.ridge * problem.offset
        probabilities = []
        for x, y in pairs:
            e, p = problem.residual(x, y)
            probabilities.append(p)
            rhs = rhs - at.transposed(x, e)

        # The second minimiser is close to the first: start there.
        solution = found[0].clone() if found else torch.zeros_like(rhs)
        residual = rhs - _applied(problem, pairs, probabilities, solution) if found else rhs.clone()
        direction = residual.clone()
        squared, goal = residual.dot(residual), (tolerance * rhs.norm()) ** 2
        for _ in track(range(iterations), "conjugate gradients", iterations):
            if squared <= goal:
                break
            applied = _applied(problem, pairs, probabilities, direction)
            step = squared / direction.dot(applied)
            solution, residual = solution + step * direction, residual - step * applied
            previous, squared = squared, residual.dot(residual)
            direction = residual + (squared / previous) * direction
            steps += 1
        found.append(solution)
        worst = max(worst, float(squared.sqrt() / rhs.norm()) if float(rhs.norm()) > 0 else 0.0)
    return Displacements(found[0], found[-1], worst, steps)


def _applied(problem: RidgeProblem, pairs: Pairs, probabilities: Sequence[Tensor], v: Tensor) -> Tensor:
    """Return (JᵀHJ + n μ I) v, one forward-mode and one backward pass."""
    at = problem.at
    out = sum(len(x) for x, _ in pairs) * problem.ridge * v
    for (x, _), p in zip(pairs, probabilities, strict=True):
        out = out + at.transposed(x, problem.curved(p, at.times(x, v)))
    return out


def _jitter(matrix: Tensor) -> float:
    """Return what makes a singular matrix solvable when there is no ridge."""
    return 1e-6 * float(matrix.diagonal().mean())


def _cholesky(system: Tensor, rhs: Tensor) -> tuple[Tensor, float]:
    factor, failed = torch.linalg.cholesky_ex(system)
    if int(failed):
        raise InputError("the linearised system is not positive definite; use a larger ridge (mu) or solver='cg'")
    solution = torch.cholesky_solve(rhs.unsqueeze(1), factor).squeeze(1)
    return solution, _checked(system, solution, rhs)


def _lu(system: Tensor, rhs: Tensor) -> tuple[Tensor, float]:
    solution, failed = torch.linalg.solve_ex(system, rhs)
    if int(failed):
        raise InputError("the linearised system is singular; use a larger ridge (mu) or solver='cg'")
    return solution, _checked(system, solution, rhs)


def _checked(system: Tensor, solution: Tensor, rhs: Tensor) -> float:
    residual = float((system @ solution - rhs).norm() / rhs.norm()) if float(rhs.norm()) > 0 else 0.0
    if not residual < 1e-6:
        raise InputError(
            f"the linearised system is too ill-conditioned: relative residual {residual:.1e}; use a larger ridge (mu)"
        )
    return residual
