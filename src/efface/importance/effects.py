"""What ablations did to the predictions and losses of one chunk of samples, summed per unit."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.running.ranks import Ranks, reduced

__all__ = ["Effects"]


class Effects:
    """Per-unit sums over samples of the change in correctness and loss, from pairs (unit, sample) of new logits.

    A pair that never arrives counts as unchanged.

    Args:
        units: Number of units.
        device: Of the sums.
    """

    def __init__(self, units: int, device: torch.device) -> None:
        self.lost = torch.zeros(units, dtype=torch.int64, device=device)
        self.won = torch.zeros(units, dtype=torch.int64, device=device)
        self.loss = torch.zeros(units, dtype=torch.float64, device=device)
        self.samples = 0
        self.correct = 0

    def start_chunk(self, logits: Tensor, y: Tensor) -> Tensor:
        """Take the unablated logits (b, K) and labels (b,) of the next chunk; return its losses (b,)."""
        self._y = y
        self._correct = logits.argmax(1) == y
        self._losses = _losses(logits, y)
        self.samples += len(y)
        self.correct += int(self._correct.sum())
        return self._losses

    def add(self, rows: Tensor, samples: Tensor, logits: Tensor) -> None:
        """Add pairs.

        Args:
            rows: Which unit (p,), int64.
            samples: Which sample of the chunk (p,), int64.
            logits: The logits (p, K) of that sample without that unit.
        """
        y = self._y[samples]
        before, after = self._correct[samples], logits.argmax(1) == y
        self.lost.index_add_(0, rows, (before & ~after).long())
        self.won.index_add_(0, rows, (after & ~before).long())
        self.loss.index_add_(0, rows, _losses(logits, y) - self._losses[samples])

    def share(self, fabric: Ranks | None) -> None:
        """Replace the sums by those over all processes."""
        self.lost, self.won, self.loss = (reduced(total, fabric) for total in (self.lost, self.won, self.loss))
        counts = reduced(torch.tensor([self.samples, self.correct], device=self.loss.device), fabric)
        self.samples, self.correct = (int(count) for count in counts)


def _losses(logits: Tensor, y: Tensor) -> Tensor:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.nn.functional.cross_entropy(logits, y, reduction="none").double()
