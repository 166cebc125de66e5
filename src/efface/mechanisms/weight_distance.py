"""Distance of weights from those they started from, as a term of a loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["rms_distance"]


def rms_distance(model: nn.Module, start: Mapping[str, Tensor]) -> Tensor:
    """Return sqrt(mean over all parameters of (theta - start)^2), differentiable, with gradient 0 where they agree.

    Args:
        model: Its parameters theta, those named in `start`.
        start: What to measure from; non-empty.
    """
    parameters = dict(model.named_parameters())
    squares = [((parameters[name] - value) ** 2).sum() for name, value in start.items()]
    mean = torch.stack(squares).sum() / sum(value.numel() for value in start.values())
    # The root's slope is infinite at 0, where every direction leads away and none is better than another.
    return torch.where(mean > 0, mean.clamp(min=torch.finfo(mean.dtype).tiny).sqrt(), mean)
