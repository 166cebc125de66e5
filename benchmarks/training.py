"""Training through Efface's loop against a bare PyTorch loop over tensors: what the loop costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from measure import Benchmark
from torch import nn

from efface.data import ArraySamples, Data, Split
from efface.models import mlp, resnet18
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

RECIPE = Recipe(lr=0.01, momentum=0.9, weight_decay=5e-4, epochs=1, batch_size=128)


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    yield _against_bare("MLP 784-1000-10, one epoch of 60,000 images of 28 x 28", mlp, (1, 28, 28), 60_000, device)
    width = 16 if device.type == "cpu" else 64
    yield _against_bare(
        f"ResNet-18 width {width}, 1,280 images of 32 x 32",
        lambda: resnet18(width=width),
        (3, 32, 32),
        1_280,
        device,
    )


def _against_bare(
    name: str, network: Callable[[], nn.Module], shape: tuple[int, ...], samples: int, device: torch.device
) -> Benchmark:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (samples, *shape), generator=draw, dtype=torch.uint8)
    y = torch.randint(10, (samples,), generator=draw)
    held = ArraySamples(x, y)
    part = Split.of(Data("noise", held, held, tuple(map(str, range(10)))), validation=0.0).train
    return Benchmark(
        f"training, {name}",
        "bare loop over tensors",
        naive=lambda: _bare(network().to(device), x.to(device), y.to(device)),
        ours=lambda: fit(network(), part, RECIPE, Run(device=str(device))),
        bar=0.5,
        repeats=3,
    )


def _bare(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """One epoch with pixels scaled beforehand: as little as a loop can do."""
    scaled = x.float() / 255
    optimiser = torch.optim.SGD(model.parameters(), RECIPE.lr, RECIPE.momentum, weight_decay=RECIPE.weight_decay)
    model.train()
    for batch in torch.randperm(len(x), device=x.device).split(RECIPE.batch_size):
        loss = nn.functional.cross_entropy(model(scaled[batch]), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model
