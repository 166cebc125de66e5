"""Draw what `switches.py` measured for rows `alpha A` over A, with the retrained models' range.

Run: python experiments/audits/alpha_curve.py experiments/results/NAME
Writes alpha.png beside results.csv; every line is a class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

COLUMNS = {
    "recall from 10": "recall from 10 records a class, %",
    "relearning steps": "relearning steps",
    "JS of mass": "JS of kept-class mass",
    "kept held-out": "kept classes, held-out, %",
}


def main(folder: str) -> None:
    """Read results.csv and draw one panel per measure."""
    frame = pd.read_csv(Path(folder) / "results.csv")
    swept = frame[frame["row"].str.match(r"alpha [\d.]+$")].copy()
    swept["alpha"] = swept["row"].str.removeprefix("alpha ").astype(float)
    figure, axes = plt.subplots(1, len(COLUMNS), figsize=(3.2 * len(COLUMNS), 3), layout="constrained")
    for axis, (column, title) in zip(axes, COLUMNS.items(), strict=True):
        for i, (c, part) in enumerate(swept.groupby("class")):
            part = part.sort_values("alpha")
            axis.plot(part["alpha"], part[column], marker="o", color=f"C{i}", label=f"class {c}")
            null = frame[(frame["class"] == c) & frame["row"].str.startswith("retrained")][column]
            axis.axhspan(null.min(), null.max(), color=f"C{i}", alpha=0.15, linewidth=0)
        axis.set_xlabel("alpha")
        axis.set_title(title, fontsize=9)
    axes[0].legend(fontsize=8)
    figure.savefig(Path(folder) / "alpha.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
