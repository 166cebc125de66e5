"""Mnemonic codes at work: what a model makes of them, the direction that forgets some, and the choice of a step."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from efface.curvature import fisher_diagonal

__all__ = ["CodeScores", "Codes", "best_cell", "code_scores", "fisher_ratio", "move", "step_size"]

_FLOOR = 1e-16  # added to both sums of squares, as in the official code

_CHUNK = 256  # codes per forward pass


class Codes(NamedTuple):
    """The codes of the classes to forget and to keep; those of classes forgotten earlier are left out.

    Attributes:
        x: Network inputs (M, ...).
        y: Class numbers (M,).
        forget: Which of them are to be forgotten (M,), boolean.
    """

    x: Tensor
    y: Tensor
    forget: Tensor


@dataclasses.dataclass(frozen=True)
class CodeScores:
    """What a model makes of the codes.

    Attributes:
        retained_accuracy: Share of the retained classes' codes that are recognised.
        forgotten_error: Share of the forgotten classes' codes that are not.
        forget_margin: Largest margin z_y − log Σ_{j≠y} exp z_j among the codes to forget.
        retain_margin: Smallest margin among the others.
    """

    retained_accuracy: float
    forgotten_error: float
    forget_margin: float
    retain_margin: float

    @property
    def score(self) -> float:
        """A_R + E_F on the codes, in [0, 2]."""
        return self.retained_accuracy + self.forgotten_error

    def row(self) -> dict[str, float]:
        """Return the finite numbers by name, for the history."""
        numbers = {**dataclasses.asdict(self), "score": self.score}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}


def fisher_ratio(model: nn.Module, codes: Codes, names: list[str]) -> tuple[dict[str, Tensor], CodeScores]:
    """Return η = f_F / f_R element-wise, by parameter name, and the codes' scores: one batched pass over all codes.

    f_F and f_R are means over codes of each code's own squared gradient (empirical Fisher diagonals).

    Args:
        model: In eval mode.
        codes: Both kinds.
        names: Parameters.
    """
    forget = codes.forget.double()
    dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    fisher = fisher_diagonal(
        model, codes.x, codes.y, sample_weights=[forget, 1 - forget], parameters=names, dtype=dtype, keep_logits=True
    )
    (ours, theirs), (n_f, n_r) = fisher.sums, fisher.totals
    ratio = {}
    for name in names:
        top, bottom = ours[name].add_(_FLOOR), theirs[name].add_(_FLOOR)
        ratio[name] = top.div_(bottom).mul_(n_r / n_f).nan_to_num_(nan=0.0)
    assert fisher.logits is not None
    return ratio, _code_scores(fisher.logits, codes)


def step_size(eta: Tensor, lambda_1: float, lambda_2: float) -> float:
    """Return α = min(λ1, λ2 / max η) of one tensor, so that no weight moves by more than λ2."""
    largest = float(eta.max())
    return min(lambda_1, lambda_2 / largest) if largest > 0 else lambda_1


def code_scores(model: nn.Module, codes: Codes) -> CodeScores:
    """Return what a model in eval mode makes of the codes; NaN and infinite logits count as the worst."""
    with torch.no_grad():
        return _code_scores(torch.cat([model(x) for x in codes.x.split(_CHUNK)]), codes)


def _code_scores(logits: Tensor, codes: Codes) -> CodeScores:
    z = logits.double()
    forget = codes.forget.to(z.device)
    if not bool(z.isfinite().all()):
        return CodeScores(0.0, 0.0, torch.inf, -torch.inf)
    y = codes.y.to(z.device).unsqueeze(1)
    margins = z.gather(1, y)[:, 0] - z.scatter(1, y, -torch.inf).logsumexp(1)
    right = z.argmax(1) == y[:, 0]
    return CodeScores(
        float(right[~forget].double().mean()),
        float((~right[forget]).double().mean()) if bool(forget.any()) else 0.0,
        float(margins[forget].max()) if bool(forget.any()) else -torch.inf,
        float(margins[~forget].min()),
    )


def best_cell(
    found: dict[tuple[float, float], tuple[int, CodeScores]], before: CodeScores, slack: float = 0.1
) -> tuple[tuple[float, float], str]:
    """Return the pair (λ1, λ2) that forgets the codes deepest at the least cost to the others, and why.

    With t half the forget margin before: among the pairs with forget margin ≤ −t whose retained codes are all
    recognised, the largest retained margin decides; of those within `slack` of it, the one with the lowest forget
    margin is taken, because forgetting a code weakly is not forgetting its class. Pairs for which the step went down η
    come before those for which it went up: going up may empty the code and spare the class. If no pair gets to −t, then
    among those that keep at least half of the smallest retained margin, the lowest forget margin; and if none does
    that, the highest score, then the lowest forget margin.

    Args:
        found: Sign of the step and scores after it, by pair.
        before: Scores of the model before.
        slack: Retained margin given up for depth, as a fraction of the one before.
    """
    t = max(before.forget_margin, 0.0) / 2
    deep = {k: (g, s) for k, (g, s) in found.items() if s.forget_margin <= -t and s.retained_accuracy == 1}
    if deep:
        down = {k: s for k, (g, s) in deep.items() if g < 0} or {k: s for k, (_, s) in deep.items()}
        enough = max(s.retain_margin for s in down.values()) - slack * max(before.retain_margin, 0.0)
        best = min((k for k in down if down[k].retain_margin >= enough), key=lambda k: down[k].forget_margin)
        return best, f"forget margin at most {-t:.2f}, retained margin within {slack:.0%} of the largest, then deepest"
    ends = {k: s for k, (_, s) in found.items()}
    gentle = {k: s for k, s in ends.items() if s.retain_margin >= before.retain_margin / 2 > 0}
    if gentle:
        return min(gentle, key=lambda k: gentle[k].forget_margin), (
            f"no pair brought the forget margin to {-t:.2f} with every retained code recognised; this one brought it "
            "lowest with at least half of the retained margin"
        )
    return min(ends, key=lambda k: (-ends[k].score, ends[k].forget_margin)), (
        "no pair kept half of the retained margin; this one has the highest code score"
    )


def move(
    weights: dict[str, nn.Parameter],
    start: dict[str, Tensor],
    eta: dict[str, Tensor],
    alpha: dict[str, float],
    sign: int,
) -> None:
    """Write start + sign · α η into the weights, in place.

    Args:
        weights: The model's parameters by name.
        start: Where to start from.
        eta: Direction.
        alpha: Step size per tensor; a tensor with 0 stays as it was, bit for bit.
        sign: 1 or -1.
    """
    with torch.no_grad():
        for name, weight in weights.items():
            if alpha[name] == 0:
                weight.copy_(start[name])  # adding zero would turn −0 into +0
            else:
                torch.add(start[name], eta[name].to(weight.dtype), alpha=sign * alpha[name], out=weight)
