"""Forgetting by mnemonic code: one batched pass and one eta against codes one by one and two deep copies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from fisher import loop_of_batch_one
from measure import Benchmark
from torch import Tensor, nn

from efface.methods.mnemonic.mnemonic import Mnemonic
from efface.models import resnet18
from efface.running.extras import import_torchvision
from efface.running.run import Run

LAMBDA_1, LAMBDA_2 = 1e-5, 1e4
GFLOP_PER_CODE = 2 * 3 * 1.8  # multiply-adds of ResNet-18 at 224 px, forward and backward, as floating-point operations


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    yield _forgetting("mnemonic forgetting, ResNet-18, 10 codes", resnet18(width=64), (3, 32, 32), 10, 10, device)
    if device.type == "cuda":
        net = import_torchvision().models.resnet18(num_classes=1000)
        yield _forgetting(
            "mnemonic forgetting, torchvision ResNet-18, 1000 codes at 224 px", net, (3, 224, 224), 1000, 50, device
        )


def _forgetting(
    name: str, model: nn.Module, shape: tuple[int, ...], classes: int, timed: int, device: torch.device
) -> Benchmark:
    model = model.to(device).eval()
    codes = torch.rand(classes, *shape, generator=torch.Generator().manual_seed(0))
    artifact: Any = SimpleNamespace(model=model, memory={"codes": codes, "code_classes": torch.arange(classes)})
    split: Any = SimpleNamespace(forget_classes=(0,), retain_classes=tuple(range(1, classes)))
    method = Mnemonic(lambda_1=LAMBDA_1, lambda_2=LAMBDA_2)
    x = codes[:timed].to(device)
    large = classes > timed
    return Benchmark(
        name,
        "codes one by one, two deep copies, eta twice (as the official code does)"
        + (f", {timed} codes timed" if large else ""),
        lambda: method.forget(artifact, split, Run(device=str(device), seed=0)),
        lambda: one_by_one(model, x),
        bar=None if large else 3.0,
        aim=None if large else 5.0,
        naive_share=timed / classes,
        repeats=9,
        remark=lambda _: f"floor {_floor(device, classes):.2f} s (aim 0.5 s)" if large else "",
    )


def one_by_one(model: nn.Module, codes: Tensor) -> nn.Module:
    """Forget class 0 as the official code does: a copy and an eta per candidate, one code at a time."""
    candidates = []
    labels = torch.arange(len(codes), device=codes.device)
    for sign in (1, -1):
        candidate = copy.deepcopy(model)
        forget = loop_of_batch_one(candidate, codes[:1], labels[:1])
        retain = loop_of_batch_one(candidate, codes[1:], labels[1:])
        with torch.no_grad():
            for name, p in candidate.named_parameters():
                eta = (forget[name] + 1e-16) / (retain[name] / (len(codes) - 1) + 1e-16)
                p += sign * min(LAMBDA_1, LAMBDA_2 / float(eta.max())) * eta
            right = [int(candidate(codes[i : i + 1]).argmax()) == i for i in range(len(codes))]
        candidates.append((sum(right[1:]) / (len(codes) - 1) + (not right[0]), candidate))
    return candidates[0][1] if candidates[0][0] > candidates[1][0] else candidates[1][1]


def _floor(device: torch.device, codes: int) -> float:
    """Return the seconds that the codes' arithmetic takes at the speed of a large matrix product on this device."""
    a = torch.randn(8192, 8192, device=device)
    for _ in range(3):
        a @ a
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        a @ a
    end.record()
    torch.cuda.synchronize(device)
    per_second = 10 * 2 * 8192**3 / (start.elapsed_time(end) / 1e3)
    return codes * GFLOP_PER_CODE * 1e9 / per_second
