"""The work of many layers spread over the cores of a CPU, whole layers on one core each.

A large layer takes one sample at a time, and two threads on one such product wait for each other; at times they are
slower than one. Different layers do not meet. Small layers take many samples at once, which all threads share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["LayerWork", "each_on_one_core", "shared_out"]

T = TypeVar("T")

_LARGE = 2**24  # multiplications per sample from which layers get a core each; tuned on two cores

_LARGEST_CUT = 2**22  # weights of a layer whose samples several cores share: each holds its own sums


@dataclass(frozen=True)
class LayerWork:
    """What one layer does for the samples first, ..., first + len(a) - 1 of a chunk.

    Attributes:
        module: The layer.
        a: Its input (b, ...).
        g: The gradient at its output (b, ...).
        first: Where these samples stand in the chunk.
    """

    module: nn.Module
    a: Tensor
    g: Tensor
    first: int = 0

    @property
    def weights(self) -> int:
        """Size of the weight."""
        assert isinstance(self.module.weight, Tensor)
        return self.module.weight.numel()

    @property
    def cost(self) -> int:
        """Multiplications of the products of input and output gradient, sample by sample; 0 where there are none."""
        products = isinstance(self.module, nn.Conv1d | nn.Conv2d) or (
            isinstance(self.module, nn.Linear) and self.a.ndim > 2
        )
        if not products:
            return 0
        assert isinstance(self.module.weight, Tensor)
        return self.g.numel() * self.module.weight[0].numel()

    def cut(self, pieces: int) -> list[LayerWork]:
        """Return the same work in about as many pieces of consecutive samples."""
        step = -(-len(self.a) // min(pieces, len(self.a)))
        parts = [slice(start, start + step) for start in range(0, len(self.a), step)]
        return [LayerWork(self.module, self.a[part], self.g[part], self.first + part.start) for part in parts]


def shared_out(work: Sequence[LayerWork], threads: int) -> tuple[list[LayerWork], list[LayerWork]]:
    """Return the work that all threads do together, and the rest in pieces for one core each, costly ones first.

    A layer that costs more than half of a core's share is cut by samples; one too large to be summed several times
    (memory) and too costly for one core stays with all threads.

    Args:
        work: The layers of a chunk.
        threads: Cores.
    """
    large = [layer for layer in work if layer.cost >= _LARGE * len(layer.a)]
    share = sum(layer.cost for layer in large) / threads
    together = [layer for layer in work if layer.cost < _LARGE * len(layer.a)]
    pieces: list[LayerWork] = []
    for layer in large:
        if layer.weights <= _LARGEST_CUT:
            pieces += layer.cut(-(-2 * layer.cost // round(share)))
        elif layer.cost <= share:
            pieces.append(layer)
        else:
            together.append(layer)
    return together, sorted(pieces, key=lambda piece: -piece.cost)


def each_on_one_core(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run tasks without gradients, as many at once as torch has threads, each on one; return the results in order."""
    threads = torch.get_num_threads()

    def run(task: Callable[[], T]) -> T:
        with torch.no_grad():  # a thread begins with gradients on
            return task()

    if threads == 1 or len(tasks) < 2:
        return [run(task) for task in tasks]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(run, tasks))
    finally:
        torch.set_num_threads(threads)  # threads that start later take over the number that was set last
