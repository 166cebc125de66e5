"""Sums shared between the processes of a data-parallel run."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

__all__ = ["Ranks", "reduced"]


class Ranks(Protocol):
    """What is needed of `lightning_fabric.Fabric` to share a sum between processes."""

    @property
    def world_size(self) -> int:
        """Number of processes."""

    @property
    def global_rank(self) -> int:
        """This process, from 0."""

    def all_reduce(self, data: Any, *, reduce_op: Any) -> Any:
        """Return the sum of `data` over the processes."""


def reduced(value: Tensor, fabric: Ranks | None) -> Tensor:
    """Return the sum of `value` over all processes; `value` itself when there is only one."""
    if fabric is None or fabric.world_size == 1:
        return value
    total: Tensor = fabric.all_reduce(value, reduce_op="sum")
    return total
