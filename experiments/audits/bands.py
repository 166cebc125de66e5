"""How often one more score lies outside of a band, by the scores' law and their number: Student's interval beside ours.

Run: python experiments/audits/bands.py
Writes ../results/bands/table.md in experiments/.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from scipy import stats
from torch import Tensor

from efface.auditing.measures.bands import band_ends

DRAWS, CONFIDENCE = 100_000, 1 - 0.05 / 12

Law = Callable[[tuple[int, int], torch.Generator], Tensor]


def normal(shape: tuple[int, int], g: torch.Generator) -> Tensor:
    """Return standard normal values."""
    return torch.randn(shape, generator=g, dtype=torch.float64)


def heavy(shape: tuple[int, int], g: torch.Generator) -> Tensor:
    """Return values of Student's law of 5 degrees."""
    squares = torch.randn(5, *shape, generator=g, dtype=torch.float64).square().mean(0)
    return normal(shape, g) / squares.sqrt()


def exponential(shape: tuple[int, int], g: torch.Generator) -> Tensor:
    """Return values of skewness 2."""
    return -torch.rand(shape, generator=g, dtype=torch.float64).log()


def share_of_180(shape: tuple[int, int], g: torch.Generator) -> Tensor:
    """Return shares near 0.98 of 180 records, of models that differ."""
    chance = torch.sigmoid(4 + 0.5 * normal(shape, g))
    return torch.binomial(torch.full(shape, 180.0, dtype=torch.float64), chance, generator=g) / 180


LAWS: dict[str, tuple[Law, str]] = {
    "normal": (normal, "linear"),
    "Student, 5 degrees": (heavy, "linear"),
    "log-normal, sigma 0.5": (lambda shape, g: (normal(shape, g) / 2).exp(), "linear"),
    "exponential": (exponential, "linear"),
    "share, logit normal (4, 0.5)": (lambda shape, g: torch.sigmoid(4 + 0.5 * normal(shape, g)), "share"),
    "share, logit normal (4, 1)": (lambda shape, g: torch.sigmoid(4 + normal(shape, g)), "share"),
    "share of 180 records": (share_of_180, "share"),
    "whole steps, normal (12, 1)": (lambda shape, g: (12 + normal(shape, g)).round(), "steps"),
    "whole steps, 12 or, one in ten, 13": (
        lambda shape, g: 12.0 + (torch.rand(shape, generator=g, dtype=torch.float64) < 0.1),
        "steps",
    ),
}


def ours(values: Tensor, scale: str) -> Tensor:
    """Return the ends of the band, as the measures of that scale have it."""
    if scale == "share":
        return band_ends(values.clamp(0, 1).sqrt().asin(), CONFIDENCE).clamp(0, math.pi / 2).sin() ** 2
    if scale == "steps":
        low, high = band_ends(values, CONFIDENCE, least=12**-0.5)
        return torch.stack([low.floor(), high.ceil()])
    return band_ends(values, CONFIDENCE)


def student(values: Tensor) -> Tensor:
    """Return the ends of Student's prediction interval."""
    n = values.shape[1]
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * values.std(1) * math.sqrt(1 + 1 / n)
    return torch.stack([values.mean(1) - half, values.mean(1) + half])


def main() -> None:
    """Draw N scores and one more, and count how often that one is outside."""
    lines = [
        f"Share of further scores outside, of {DRAWS:,} draws, nominal {1 - CONFIDENCE:.2%}; in brackets the median "
        "width",
        "in standard deviations. Written by experiments/audits/bands.py.",
        "",
        "| scores | N | Student's interval | band |",
        "|---|---|---|---|",
    ]
    for name, (law, scale) in LAWS.items():
        for n in (4, 8, 16, 64):
            draws = law((DRAWS, n + 1), torch.Generator().manual_seed(n))
            values, further = draws[:, :n], draws[:, n]
            cells = []
            for low, high in (student(values), ours(values, scale)):
                outside = ((further < low - 1e-12) | (further > high + 1e-12)).double().mean()
                cells.append(f"{float(outside):.2%} ({float(((high - low) / draws.std()).median()):.1f})")
            lines.append(f"| {name} | {n} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    out = Path(__file__).parents[1] / "results" / "bands"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
