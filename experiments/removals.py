"""How many records does a certificate cover? Certified removal on MNIST, until its budget refuses.

Run: python experiments/removals.py --root DATA      (DATA holds MNIST/raw)
A linear head on pixels less 0.5, epsilon 1, delta 1e-4: threes against eights, and ten classes. Random records are
removed, so many a request, until one is refused. Writes results/removals/results.csv and table.md in experiments/.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from prepared import RECIPE, network, pair, percent

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split, load
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.certified_removal import CertifiedRemoval
from efface.request import Request
from efface.running.run import Run

OUT = Path(__file__).parent / "results" / "removals"
BASE = CertifiedRemoval(features="inputs", shift=0.5, noise="run")
MOST = 40
ROWS = (  # classes, lambda, sigma, tight, records a request
    (2, 1e-3, 1.0, False, 10),
    (2, 1e-3, 1.0, True, 300),
    (2, 1e-2, 1.0, True, 1000),
    (2, 1e-3, 1.0, False, 1),
    (10, 1e-3, 1.0, False, 10),
    (10, 1e-3, 1.0, True, 300),
)


def rows_of(artifact: Artifact, stage: str) -> dict[str, float]:
    """Return the numbers that the last step wrote down."""
    return next(r for r in reversed(artifact.record.history) if r["stage"] == stage)


def removals(data: Data, method: CertifiedRemoval, each: int) -> dict[str, object]:
    """Serve requests until the budget refuses one, `MOST` are served, or half of the data is gone; return a row."""
    whole = Split.of(data, validation=0.0)
    artifact = prepare(method, network(data), whole, RECIPE, Run(0, "cpu"))
    before, order = percent(artifact.model, whole.test), np.random.default_rng(0).permutation(len(data.train))
    served, share, seconds, refused = 0, 0.0, [], False
    for first in range(0, min(MOST * each, len(order) // 2), each):
        items = order[first : first + each]
        split = Split.of(data, Request.of(items=items.tolist()), 0.0, earlier=artifact.record.earlier_requests)
        started = time.perf_counter()
        try:
            artifact = apply(method, Case(artifact, split, Run(1, "cpu")))
        except InputError as error:
            if "does not cover" not in str(error):
                raise
            refused = True
            break
        seconds.append(time.perf_counter() - started)
        residual = rows_of(artifact, "certified-removal/removal")["residual"]
        share = max(share, residual / rows_of(artifact, "certified-removal")["spent"])
        served += each
    last = Split.of(data, None, 0.0, earlier=artifact.record.earlier_requests)
    plain = prepare(dataclasses.replace(method, sigma=0.0), network(data), last, RECIPE, Run(0, "cpu"))
    anew = prepare(method, network(data), last, RECIPE, Run(2, "cpu"))
    return {
        "removed": served,
        "refused": refused,
        "epsilon": rows_of(artifact, "certified-removal").get("epsilon", 0.0),
        "residual_share": share,
        "before": before,
        "after": percent(artifact.model, last.test),
        "anew": percent(anew.model, last.test),
        "without_noise": percent(plain.model, last.test),
        "seconds": float(np.median(seconds)) if seconds else float("nan"),
    }


def write_table(frame: pd.DataFrame) -> None:
    """Write one line per setting."""
    lines = [
        "Certified removal on MNIST pixels less 0.5, epsilon 1, delta 1e-4: records removed until the budget refuses a",
        "request. Residual / account: the largest share of the account that the true residual is; above 1 the bound is",
        "broken. Test accuracy before, after, of the head trained anew without those records, with other noise and",
        "without any. Written by experiments/removals.py.",
        "",
        "| data | λ | σ | bound | records a request | removed | ε spent | residual / account | before, % | after, % "
        "| anew, % | no noise, % | a request, s |",
        "|---" * 13 + "|",
    ]
    for _, r in frame.iterrows():
        removed = f"{r['removed']}" if r["refused"] else f"{r['removed']} (stopped there)"
        cells = f"{r['data']} | {r['lam']:g} | {r['sigma']:g} | {r['bound']} | {r['each']} | {removed}"
        shares = f"{r['epsilon']:.3f} | {r['residual_share']:.3f}"
        accuracies = " | ".join(f"{r[k]:.2f}" for k in ("before", "after", "anew", "without_noise"))
        lines.append(f"| {cells} | {shares} | {accuracies} | {r['seconds']:.1f} |")
    (OUT / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(root: Path) -> None:
    """Compute and write, row by row."""
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    mnist = load("mnist", root, normalise=False)
    data, rows = {2: pair(mnist), 10: mnist}, []
    for classes, lam, sigma, tight, each in ROWS:
        method = dataclasses.replace(BASE, lam=lam, sigma=sigma, tight=tight)
        row = {"data": data[classes].name, "lam": lam, "sigma": sigma, "bound": "tight" if tight else "official"}
        rows.append({**row, "each": each, **removals(data[classes], method, each)})
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(OUT / "results.csv", index=False, float_format="%.4f")
        write_table(pd.DataFrame(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    main(parser.parse_args().root)
