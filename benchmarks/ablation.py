"""Exact and screened ablation against zero-and-restore with a full forward pass per unit."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from measure import Benchmark
from sklearn.datasets import load_digits
from torch import Tensor, nn

from efface.importance import (
    Importance,
    Screening,
    Unit,
    ablation_importance,
    overlap,
    screened_importance,
    unit_list,
    zeroed,
)
from efface.models import lenet5, resnet18

RESNET_SAMPLES = 500
LENET_UNITS_TIMED, RESNET_UNITS_TIMED = 60, 20  # every unit costs the naive way one full forward pass, so some tell all


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    net, x, y = trained("lenet5", 28, 1, device)
    x, y = x[:1000], y[:1000]
    units = unit_list(net)
    some = units[:: len(units) // LENET_UNITS_TIMED]
    yield Benchmark(
        f"exact ablation, LeNet-5, {len(units)} units, 1000 samples",
        f"zero and restore in memory, unit by unit ({len(some)} units timed)",
        lambda: ablation_importance(net, x, y),
        lambda: zero_and_restore(net, x, y, some),
        bar=5.0,
        aim=10.0,
        naive_share=len(some) / len(units),
    )
    deep, u, v = trained("resnet18", 32, 3, device)
    u, v = u[-RESNET_SAMPLES:], v[-RESNET_SAMPLES:]
    every = unit_list(deep)
    timed = every[:: len(every) // RESNET_UNITS_TIMED]
    exact: list[Importance] = []

    def ours_exact() -> Importance:
        exact[:] = [ablation_importance(deep, u, v)]
        return exact[0]

    def remark(found: Screening) -> str:
        found_overlap = overlap(found.top(), exact[0] if exact else ablation_importance(deep, u, v))
        return f"overlap with the exact top {found.k}: {found_overlap:.3f} (bar 0.9)"

    yield Benchmark(
        f"exact ablation, ResNet-18 width 16, {len(every)} units, {RESNET_SAMPLES} samples",
        f"zero and restore in memory ({len(timed)} units timed)",
        ours_exact,
        lambda: zero_and_restore(deep, u, v, timed),
        bar=3.0,
        aim=5.0,
        naive_share=len(timed) / len(every),
        repeats=1 if device.type == "cpu" else 3,
        remark=lambda found: f"accuracy before {found.accuracy:.3f}",
    )
    yield Benchmark(
        "screened ablation, ResNet-18 width 16, top 5 %",
        f"zero and restore in memory ({len(timed)} units timed)",
        lambda: screened_importance(deep, u, v, top=0.05),
        lambda: zero_and_restore(deep, u, v, timed),
        bar=20.0,
        aim=100.0,
        naive_share=len(timed) / len(every),
        repeats=1 if device.type == "cpu" else 3,
        remark=remark,
    )


def zero_and_restore(net: nn.Module, x: Tensor, y: Tensor, units: Sequence[Unit]) -> list[float]:
    """Return every unit's accuracy drop from one full forward pass each."""
    with torch.no_grad():
        before = float((net(x).argmax(1) == y).double().mean())
        drops = []
        for unit in units:
            with zeroed(net, [unit]):
                drops.append(before - float((net(x).argmax(1) == y).double().mean()))
    return drops


@functools.cache
def trained(name: str, size: int, channels: int, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network trained for seconds on scikit-learn's digits, enlarged, with all of them and their labels."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    x = nn.functional.interpolate(x, size=size, mode="bilinear").repeat(1, channels, 1, 1).to(device)
    y = torch.tensor(digits.target).to(device)
    with torch.random.fork_rng():  # layers draw their weights from the global generator
        torch.manual_seed(0)
        net = (lenet5() if name == "lenet5" else resnet18(width=16)).to(device)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for batch in torch.randperm(1200, generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
    return net.eval(), x, y
