"""Networks for the engine's tests: small, float64, with the traps that hide mistakes switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A network in eval mode with inputs (n, ...) and labels (n,) over `classes` classes."""

    model: nn.Module
    x: Tensor
    y: Tensor
    classes: int


class InPlaceBlock(nn.Module):
    """A strided residual block with in-place ReLU and `+=`: the recorded outputs are overwritten downstream."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.down(x)
        return self.relu(out)


class Attention(nn.Module):
    """Embedding, class token and positions, one pre-norm attention block with an MLP, read out at the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.zeros(1, 6, 8))
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        z = self.embedding(ids)
        z = torch.cat([self.token.expand(z.shape[0], -1, -1), z], 1) + self.positions
        n = self.norm1(z)
        z = z + self.attention(n, n, n, need_weights=False)[0]
        z = z + self.mlp(self.norm2(z))
        return self.head(z[:, 0])


class Tokens(nn.Module):
    """Linear layers on tokens, averaged over all of them, so that gradients flow at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.norm = nn.LayerNorm(7)
        self.second = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.norm(self.first(x)))).mean(1)


class Tied(nn.Module):
    """A layer called twice, and a weight read by a second place: sums before the square."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(6, 6)
        self.once = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        z = torch.tanh(self.once(z)) + nn.functional.linear(z, self.once.weight.T)
        return self.head(z)


class Branching(nn.Module):
    """Python control flow on values: torch.fx cannot trace it, hooks can."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.second = nn.Linear(9, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not bool(torch.isfinite(x).all()):
            x = torch.nan_to_num(x)
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


def _mlp() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.Sigmoid(), nn.Linear(9, 4)), (3, 4, 4)


def _residual() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), InPlaceBlock(6, 8, 2), nn.GroupNorm(2, 8)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), (3, 8, 8)


def _grouped() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding="same", dilation=2, groups=2, padding_mode="circular"),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    ), (4, 8, 8)


def _conv1d() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(
        nn.Conv1d(3, 6, 4, stride=2, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)
    ), (3, 10)


def _large_map() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(48, 48, 3, padding=1, groups=2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4)), (3, 12, 12)


def _wide() -> tuple[nn.Module, tuple[int, ...]]:
    # More than 2^20 weights in one convolution: summed a few output channels at a time.
    layers = [nn.Conv2d(2, 300, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(300, 400, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(400, 4)), (2, 3, 3)


_BUILDERS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "mlp": _mlp,
    "residual, in place": _residual,
    "grouped, dilated, circular": _grouped,
    "conv1d": _conv1d,
    "large maps": _large_map,
    "wide": _wide,
    "attention": lambda: (Attention(), (5,)),
    "tokens": lambda: (Tokens(), (3, 5)),
    "tied": lambda: (Tied(), (6,)),
    "branching": lambda: (Branching(), (6,)),
}

NAMES = tuple(_BUILDERS)


def case(name: str, samples: int = 7, seed: int = 0) -> Case:
    """Build a case with weights, affine parameters and running statistics drawn from a generator.

    Default statistics (0 and 1) and affine parameters (1 and 0) would hide a wrong formula.
    """
    generator = torch.Generator().manual_seed(seed)
    model, shape = _BUILDERS[name]()
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel() if parameter.ndim > 1 else 1)
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / fan**0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.3)
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    if name == "attention":
        x = torch.randint(0, 11, (samples, *shape), generator=generator)
    else:
        x = torch.randn(samples, *shape, generator=generator, dtype=torch.float64)
    return Case(model, x, torch.randint(0, 4, (samples,), generator=generator), 4)
