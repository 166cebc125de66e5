"""Matching: an attack's two groups must not differ in anything but membership."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["match_by_class"]


def match_by_class(
    members: Tensor, others: Tensor, generator: torch.Generator, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """Draw as many members as others of every class, so that the label itself betrays nothing.

    Args:
        members: Labels of the forget records.
        others: Labels of the held-out records.
        generator: Where the draw comes from; never the first n.
        most: Most records on each side; all that match by default.

    Returns:
        Sorted positions into both groups, of equal length, each class equally often in both.

    Raises:
        InputError: If no class occurs in both groups.
    """
    left: list[Tensor] = []
    right: list[Tensor] = []
    for c in sorted(set(members.tolist()) & set(others.tolist())):
        a, b = (members == c).nonzero().flatten(), (others == c).nonzero().flatten()
        n = min(len(a), len(b))
        left.append(a[torch.randperm(len(a), generator=generator)[:n]])
        right.append(b[torch.randperm(len(b), generator=generator)[:n]])
    if not left:
        raise InputError(
            "No held-out record shares a class with the forget records, so no fair attack can be made; "
            "hold out some records of the forgotten classes."
        )
    first, second = torch.cat(left), torch.cat(right)
    kept = torch.randperm(len(first), generator=generator)[:most]
    return first[kept].sort().values, second[kept].sort().values
