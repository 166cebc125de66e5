"""The entanglement-reduced mask M in [0, 1]^{C x K}: which channels belong to which class.

Source: Lin, Zhang, Chen, Chen, Susilo, "ERM-KTP", CVPR 2023; the mask's training follows Liang et al., ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["LearntMask", "density", "masking", "normalise", "penalty", "prohibition"]


class LearntMask:
    """A mask while it is learnt, from 0.5 everywhere, by SGD with momentum 0.9 and decay 5e-4; `carried` by `fit`.

    Args:
        channels: C.
        classes: K.
        lr: Rate.
        device: Where it lies.

    Attributes:
        mask: M (C, K); requires a gradient.
        seen: Steps of training so far, those without the mask included.
        course: Density and share of exact zeros after each epoch.
    """

    def __init__(self, channels: int, classes: int, lr: float, device: torch.device) -> None:
        self.mask = torch.full((channels, classes), 0.5, device=device, requires_grad=True)
        self.seen = 0
        self.course: list[list[float]] = []
        self._optimiser = torch.optim.SGD([self.mask], lr=lr, momentum=0.9, weight_decay=5e-4)

    def step(self) -> None:
        """Follow the gradient, and normalise."""
        self._optimiser.step()
        self._optimiser.zero_grad()
        normalise(self.mask)

    def state(self) -> dict[str, Tensor]:
        """Return mask, momentum and how far training came."""
        held = self._optimiser.state[self.mask].get("momentum_buffer")
        course = torch.tensor(self.course, dtype=torch.float64).reshape(-1, 2)
        found = {"mask": self.mask.detach(), "seen": torch.tensor(self.seen), "course": course}
        return found if held is None else {**found, "momentum": held}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go there."""
        with torch.no_grad():
            self.mask.copy_(tensors["mask"])
        self.seen, self.course = int(tensors["seen"]), tensors["course"].tolist()
        if "momentum" in tensors:
            self._optimiser.state[self.mask]["momentum_buffer"] = tensors["momentum"].to(self.mask.device)


def penalty(mask: Tensor, target: float = 0.1, orthogonality: float = 0.1) -> Tensor:
    """Return R(M) = ReLU(‖M‖₁ - target · C K) + orthogonality · sum_{i<j} <M_i, M_j> over the columns.

    Args:
        mask: M (C, K).
        target: Density above which mass costs.
        orthogonality: Weight of the overlap of classes.
    """
    columns = mask.sum(1)
    overlap = (columns.square().sum() - mask.square().sum()) / 2
    return torch.relu(mask.abs().sum() - target * mask.numel()) + orthogonality * overlap


def normalise(mask: Tensor) -> None:
    """Divide every row by its largest entry and clamp to [0, 1], in place: each channel fully belongs to a class."""
    with torch.no_grad():
        mask.div_(mask.max(dim=1, keepdim=True).values.clamp(min=torch.finfo(mask.dtype).tiny)).clamp_(0, 1)


def density(mask: Tensor) -> float:
    """Return ‖M‖₁ / (C K)."""
    return float(mask.detach().mean())


def prohibition(mask: Tensor, classes: Sequence[int]) -> Tensor:
    """Return P (C,): 1 where M[c, f] = 0 for every class f to forget, else 0."""
    return (mask[:, list(classes)] == 0).all(dim=1).to(mask)


@contextmanager
def masking(head: nn.Linear, mask: Tensor, labels: Tensor) -> Iterator[None]:
    """Multiply what enters the head by M[:, y] of each sample while the block runs.

    Masking channels before global averaging is the same, because pool(M · A) = M · pool(A).

    Args:
        head: The last linear layer, of C inputs.
        mask: M (C, K).
        labels: y (N,) of the batch that the block runs.
    """
    handle = head.register_forward_pre_hook(lambda _, args: (args[0] * mask[:, labels].T,))
    try:
        yield
    finally:
        handle.remove()
