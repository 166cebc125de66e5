"""The empirical Fisher diagonal against the loop of batch one that public code uses."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measure import Benchmark
from torch import Tensor, nn

from efface.curvature import fisher_diagonal
from efface.models import lenet5, resnet18


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    for name, model, shape, samples, bar in (
        ("empirical Fisher, LeNet-5, 1024 samples", lenet5(), (1, 28, 28), 1024, 15.0),
        ("empirical Fisher, ResNet-18 width 64, 64 samples", resnet18(width=64), (3, 32, 32), 64, 2.0),
    ):
        net = model.to(device).eval()
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(samples, *shape, generator=generator).to(device)
        y = torch.randint(0, 10, (samples,), generator=generator).to(device)

        def ours(net: nn.Module = net, x: Tensor = x, y: Tensor = y) -> object:
            return fisher_diagonal(net, x, y)

        def loop(net: nn.Module = net, x: Tensor = x, y: Tensor = y) -> object:
            return loop_of_batch_one(net, x, y)

        def plain(net: nn.Module = net, x: Tensor = x, y: Tensor = y) -> object:
            net.zero_grad()
            return nn.functional.cross_entropy(net(x), y).backward()

        yield Benchmark(name, "a loop of batch one", ours, loop, bar, repeats=9)
        yield Benchmark(
            name, "one plain forward and backward pass (at most twice its time)", ours, plain, 0.5, repeats=9
        )


def loop_of_batch_one(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Sum squared gradients sample by sample, as the SelectiveForgetting notebook and its ports do."""
    sums = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for i in range(len(x)):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        for name, p in net.named_parameters():
            if p.grad is not None:
                sums[name] += p.grad.detach() ** 2
    net.zero_grad()
    return sums
