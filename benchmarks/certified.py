"""The Newton step of certified removal at the size of MNIST: ten problems of one matrix, against a limit in seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import torch
from measure import Benchmark
from torch.nn import functional as F

from efface.methods.certified_removal.logistic import Logistic, newton_removal
from efface.running.engines import cores

RECORDS, FEATURES, CLASSES, REMOVED = 54_000, 784, 10, 10
GOES, STAYS = slice(0, REMOVED), slice(REMOVED, None)
ALLOWED = 10.0
"""Seconds for one request; the sums over the records that stay are made anew in it."""


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.rand(RECORDS, FEATURES, generator=generator) - 0.5, dim=1).double().to(device)
    signs = 2 * F.one_hot(torch.randint(CLASSES, (RECORDS,), generator=generator), CLASSES).double().to(device) - 1
    w, noise = (torch.randn(CLASSES, FEATURES, generator=generator).double().to(device) for _ in range(2))

    took: list[float] = []

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        begun = time.process_time()
        # New problems each time, so that nothing is kept from an earlier step.
        kept, gone = (Logistic(x[part], signs[part], 1e-3, noise) for part in (STAYS, GOES))
        found = newton_removal(kept, gone, w)
        took.append(time.process_time() - begun)
        return found

    def remark(made: tuple[torch.Tensor, torch.Tensor]) -> str:
        load = f"; load {os.getloadavg()[0]:.0f} on {cores()} cores" if hasattr(os, "getloadavg") else ""
        missed = f"H times the step misses g by {float(made[1].max()):.0e}"
        return f"{missed}; {min(took):.1f} s of the processors{load}"

    yield Benchmark(
        f"Newton step of certified removal, {REMOVED} of {RECORDS:,} records, {FEATURES} features, {CLASSES} classes",
        f"a limit of {ALLOWED:g} s",
        step,
        ALLOWED,
        bar=1.0,
        repeats=1,
        remark=remark,
    )
