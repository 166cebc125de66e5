"""What a model says about a part of the data, and how often it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.mode import evaluating

if TYPE_CHECKING:
    from efface.data.part import Part

__all__ = ["accuracy", "logits", "pass_size"]


def pass_size(device: torch.device | str) -> int:
    """Return how many samples a forward pass takes: on a CPU few enough that activations stay near the caches."""
    return 128 if torch.device(device).type == "cpu" else 1000


def logits(model: nn.Module, part: Part, device: torch.device | str = "cpu", size: int | None = None) -> Tensor:
    """Return the logits of every sample of a part, in its order and in eval mode; modes are restored afterwards.

    Args:
        model: From inputs to logits, on `device`.
        part: The samples.
        device: Where model and result live.
        size: Samples per forward pass; by default `pass_size`.

    Returns:
        (N, K) float32.

    Raises:
        InputError: The part is empty.
    """
    with evaluating(model), torch.no_grad():
        return torch.cat([model(x).float() for x, _ in part.batches(size or pass_size(device), device=device)])


def accuracy(model: nn.Module, part: Part, device: torch.device | str = "cpu", size: int | None = None) -> float:
    """Return the share of a part whose largest logit is its label's, in eval mode.

    Args:
        model: From inputs to logits, on `device`.
        part: The samples.
        device: Where the model lives.
        size: Samples per forward pass; by default `pass_size`.

    Raises:
        InputError: The part is empty.
    """
    if len(part) == 0:
        raise InputError(f"the {part.name} part is empty; it has no accuracy")
    right = torch.zeros((), dtype=torch.int64, device=device)
    with evaluating(model), torch.no_grad():
        for x, y in part.batches(size or pass_size(device), device=device):
            right += (model(x).argmax(1) == y).sum()
    return int(right) / len(part)
