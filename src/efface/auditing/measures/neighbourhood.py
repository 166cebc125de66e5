"""The neighbourhood: what a model knows close to the records that it was to forget."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = ["in_ball", "residual_knowledge"]


def in_ball(shape: tuple[int, ...], radius: float, generator: torch.Generator) -> Tensor:
    """Return displacements drawn uniformly from balls, one for each record.

    delta = radius u^(1/d) g / ||g||, g normal in d dimensions, u uniform: ||delta|| <= radius.

    Args:
        shape: (records, ...), d the product of all but the first.
        radius: tau, in the inputs' own units, not negative.
        generator: Where the draws come from; give an equal one for each model.

    Returns:
        float32, of that shape.

    Raises:
        InputError: The radius is negative or not finite.
    """
    if not 0 <= radius < float("inf"):
        raise InputError(f"the radius is {radius}; give a number from 0 up")
    direction = torch.randn(shape, generator=generator)
    flat = direction.flatten(1)
    length = radius * torch.rand(len(flat), 1, generator=generator) ** (1 / flat.shape[1])
    return (flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-30) * length).reshape(shape)


def residual_knowledge(hits: float, others: Tensor, asked: int) -> float:
    """Return r_tau, how much likelier a model recognises the neighbourhood of forgotten records than retrained models.

    r_tau = P[M_u(x + delta) = y] / P[M_r(x + delta) = y], ||delta|| <= tau, over records and draws; each probability is
    (hits + 1/2) / (asked + 1), so that two models that recognise nothing have ratio 1. Its null: each reference against
    the others.

    Args:
        hits: How many displaced records the model answers with their label.
        others: The same for each reference, shape (models,).
        asked: Of how many.

    Raises:
        InputError: There is no reference, or hits exceed what was asked.

    Source: residual knowledge, arXiv 2601.22359; the half counts are ours.
    """
    if asked < 1 or not len(others) or not 0 <= hits <= asked or float(others.max()) > asked or float(others.min()) < 0:
        raise InputError(
            f"{hits} hits of {asked} are compared with those of at least one reference, {others.tolist()}."
        )
    ours, theirs = (hits + 0.5) / (asked + 1), (others.double() + 0.5) / (asked + 1)
    return float(ours / theirs.mean())
