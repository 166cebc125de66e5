"""One-class models: scores a(x) >= 0, small where x belongs to the class, and the classifier made of one per class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from efface.models.ensemble import Ensemble

__all__ = ["ABSENT", "AutoEncoder", "Distance", "OneClassClassifier", "Score", "Subspace", "fit_subspace", "one_class"]

Score = Literal["pca", "autoencoder", "svdd"]

ABSENT = -1e4
"""Logit of a class without a model; finite, because -inf makes NaN in 0 * inf products."""


class Subspace(nn.Module):
    """a(x) = ‖(I - V V^T)(x - mu)‖² with mu the mean and V the top q principal axes of the class.

    Args:
        inputs: Numbers d in an input.
        axes: q.
    """

    def __init__(self, inputs: int, axes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(inputs))
        self.axes = nn.Parameter(torch.zeros(axes, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return a(x), (N,)."""
        away = x.flatten(1) - self.mean
        return (away - away @ self.axes.T @ self.axes).square().sum(1)


def fit_subspace(model: Subspace, x: Tensor) -> None:
    """Write mean and axes of the rows into a subspace, computed in float64; axes beyond the rows' rank are zero.

    Args:
        model: Changed.
        x: (n, d).
    """
    rows = x.flatten(1).double()
    mean = rows.mean(0)
    away = rows - mean
    if len(away) < away.shape[1]:  # d x d moments of a few rows take minutes where d is thousands, and say no more
        _, spreads, axes = torch.linalg.svd(away, full_matrices=False)
        values = spreads.square()
    else:
        values, axes = torch.linalg.eigh(away.T @ away)
        values, axes = values.flip(0), axes.flip(1).T
    top = axes[: len(model.axes)]
    sound = values[: len(top)] > values[0].clamp(min=0) * 1e-12
    with torch.no_grad():
        model.mean.copy_(mean)
        model.axes.zero_()
        model.axes[: len(top)] = (top * sound[:, None]).to(model.axes)


class AutoEncoder(nn.Module):
    """a(x) = ‖x - dec(enc(x))‖² of a perceptron d - 64 - width - 64 - d.

    Args:
        inputs: d.
        width: Numbers in the middle.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        sizes = [inputs, 64, width, 64, inputs]
        layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return a(x), (N,)."""
        rows = x.flatten(1)
        return (rows - self.layers(rows)).square().sum(1)


class Distance(nn.Module):
    """a(x) = ‖phi(x) - c‖², phi a perceptron d - 128 - width without biases, c fixed (deep SVDD).

    Without biases, and with a leaky ReLU, phi cannot become constant by itself.

    Args:
        inputs: d.
        width: Numbers in phi.
    """

    centre: Tensor

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(inputs, 128, bias=False), nn.LeakyReLU(0.1), nn.Linear(128, width, bias=False)
        )
        self.register_buffer("centre", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return a(x), (N,)."""
        return (self.phi(x.flatten(1)) - self.centre).square().sum(1)

    def centre_on(self, x: Tensor) -> None:
        """Set c to the mean of phi over these inputs, its entries pushed to at least 0.1 away from 0."""
        with torch.no_grad():
            mean = self.phi(x.flatten(1)).mean(0)
            self.centre.copy_(torch.where(mean.abs() < 0.1, torch.where(mean < 0, -0.1, 0.1), mean))


def one_class(score: Score, shape: Sequence[int], size: int) -> nn.Module:
    """Return an unfitted model of one class.

    Args:
        score: Which.
        shape: Of one input.
        size: q of a subspace, or the width of a network's middle.
    """
    inputs = math.prod(shape)
    if score == "pca":
        return Subspace(inputs, min(size, inputs))
    return AutoEncoder(inputs, size) if score == "autoencoder" else Distance(inputs, size)


class OneClassClassifier(Ensemble):
    """Logits -a_k(x) / t_k over K one-class models; a class without a model has the logit `ABSENT`.

    Args:
        members: One model per class.

    Attributes:
        scale: t_k (K,).
    """

    scale: Tensor

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__(members)
        self.register_buffer("scale", torch.ones(len(members)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        columns = [
            -m(x) / t if here else x.new_full((len(x),), ABSENT)
            for m, t, here in zip(self.members, self.scale, self.present.tolist(), strict=True)
        ]
        return torch.stack(columns, dim=1)
