"""A linear head fitted to the features in front of it: a convex problem, solved without epochs of training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from efface.data.split import Split
from efface.mechanisms.class_removal import of_each_class
from efface.models.head import head_of
from efface.models.predictions import features_of
from efface.running.run import Run

__all__ = ["refit_head"]

_RECORDS = 2_000  # of each class, at most
_PENALTY = 1e-3  # on the distance to the present rows, with features of mean square 1


def refit_head(model: nn.Module, split: Split, run: Run, steps: int, name: str) -> None:
    """Fit the kept classes' rows of the head to retained records, in place, from where they are; frozen heads stay.

        min over (V, c) of the mean cross-entropy of V x + c over kept classes + 1e-3 |(V, c) - (V, c)_now|^2

    by L-BFGS, with features x scaled to a mean square of 1. Rows of forgotten classes are neither read nor changed.

    Args:
        model: Changed.
        split: Under the request; retained records are read, labels too.
        run: Device, randomness.
        steps: Most steps of L-BFGS; 0 changes nothing.
        name: The method's.

    Raises:
        InputError: The logits do not come from a linear layer.
    """
    last, layer = head_of(model, split.data.input_shape)
    if steps == 0 or not layer.weight.requires_grad:
        return
    part = of_each_class(split.retain, _RECORDS, run.generator(f"{name}/head"))
    kept = torch.tensor(split.retain_classes)
    x, y = features_of(model, part, last), torch.searchsorted(kept, part.labels)
    scale = x.pow(2).mean().sqrt().clamp(min=1e-12)
    x = x / scale
    start = [layer.weight.detach()[kept].cpu() * scale]
    if layer.bias is not None:
        start.append(layer.bias.detach()[kept].cpu())
    rows = [p.clone().requires_grad_() for p in start]
    solver = torch.optim.LBFGS(rows, max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        far = sum(((p - p0) ** 2).sum() for p, p0 in zip(rows, start, strict=True))
        value = F.cross_entropy(F.linear(x, *rows), y) + _PENALTY * far
        value.backward()
        return value

    solver.step(loss)
    with torch.no_grad():
        layer.weight[kept] = (rows[0] / scale).to(layer.weight)
        if layer.bias is not None:
            layer.bias[kept] = rows[1].to(layer.bias)
