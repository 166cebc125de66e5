"""False alarms of the band for the largest deviation over blocks, on normal data, and where it begins to see.

Run: python experiments/audits/block_band.py
Writes ../results/block_band/table.md in experiments/.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor

from efface.auditing.measures.bands import band
from efface.auditing.measures.block_probe import deviations_of_shares

DRAWS, CONFIDENCE = 1000, 1 - 0.05 / 18


def largest(shares: Tensor, others: Tensor) -> float:
    """Return the size of the largest deviation over three probes, shape (3, blocks)."""
    return float(max(deviations_of_shares(shares[i], others[:, i], 10**9).abs().max() for i in range(3)))


def main() -> None:
    """Draw retrained models and one more, and count how often that one is outside."""
    lines = [
        f"{DRAWS} draws each, nominal {1 - CONFIDENCE:.2%}; in brackets the median border, in standard deviations.",
        "Written by experiments/audits/block_band.py.",
        "",
        "| references | blocks | correlation | band of sizes | band of their logarithms |",
        "|---|---|---|---|---|",
    ]
    for models, blocks, correlation in itertools.product((6, 8, 16), (1, 5), (0.0, 0.5)):
        generator = torch.Generator().manual_seed(0)
        outside, borders = [0, 0], ([], [])  # type: ignore[var-annotated]
        for _ in range(DRAWS):
            common, own = (torch.randn(models + 1, *k, generator=generator).double() for k in ((1, 1), (3, blocks)))
            z = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
            drawn = (0.8 + 0.02 * z).sin() ** 2  # shares whose arcsin sqrt is normal
            candidate, references = drawn[0], drawn[1:]
            null = torch.tensor(
                [largest(references[i], references[torch.arange(models) != i]) for i in range(models)]
            ).double()
            found = largest(candidate, references)
            ends = band(null, CONFIDENCE).high, band(null.log(), CONFIDENCE).high
            for k, end in enumerate((ends[0], float(torch.tensor(ends[1]).exp()))):
                outside[k] += found > end
                borders[k].append(end)
        cells = [
            f"{n / DRAWS:.2%} ({float(torch.tensor(b).median()):.1f})" for n, b in zip(outside, borders, strict=True)
        ]
        lines.append(f"| {models} | {blocks} | {correlation:g} | {cells[0]} | {cells[1]} |")
        print(lines[-1], flush=True)
    out = Path(__file__).parents[1] / "results" / "block_band"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
