"""The directions that one class alone uses in every layer's inputs, and taking them out of the weights.

For a layer with weights W and mean inputs mu_c per class, with P_R the projection on the span of the retained classes'
means: (I - P_R) mu_f is what the forgotten class alone has. Taking it out of W leaves W mu_c of every retained class c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.mechanisms.class_means import LayerMeans, taps

__all__ = ["Convolutions", "Directions", "directions", "take_out"]

Convolutions = Literal["patch", "channel"]
"""What a convolution's mean input is: the patch under its kernel, or the channels' means, the same at every tap."""

_ROUNDING = 1e-5
"""Share of the largest norm below which a direction of the retained means is rounding of float32."""

_NEGLIGIBLE = 1e-3
"""Share of a forgotten mean's norm below which what the retained means do not span is no class but noise. On MNIST the
mean patch of the first convolution leaves 1e-5 to 1e-4, whose direction is arbitrary; the next layers 1e-2 to 0.6."""


@dataclass(frozen=True, eq=False)
class Directions:
    """What the forgotten classes alone use, layer by layer.

    Attributes:
        of: Tap's name -> an orthonormal basis (G, d, k) float64 of what is left of their means; k may be 0.
        narrow: Taps with no more inputs than there are retained classes: their means span everything.
        spanned: Taps where the forgotten means lie in the span of the retained ones.
    """

    of: dict[str, Tensor]
    narrow: tuple[str, ...]
    spanned: tuple[str, ...]


def directions(
    means: LayerMeans,
    forget: Sequence[int],
    retain: Sequence[int],
    skip: Iterable[str] = (),
    kernels: Mapping[str, int] | None = None,
) -> Directions:
    """Return an orthonormal basis of (I - P_R) mu_f over all forgotten classes f together, for every tap.

    Args:
        means: Of all these classes.
        forget: Class numbers to forget; their order does not matter.
        retain: Class numbers whose means are left as they are.
        skip: Taps to leave out, such as the head.
        kernels: Taps of convolutions whose channels' means are to be used, with the number of places of the kernel.
    """
    found: dict[str, Tensor] = {}
    narrow, spanned = [], []
    left_out = set(skip)
    for name in means.of:
        if name in left_out:
            continue
        gone, kept = means.rows(name, forget), means.rows(name, retain)
        if kernels and name in kernels:
            gone, kept = (m.unflatten(-1, (-1, kernels[name])).mean(-1) for m in (gone, kept))
        if gone.shape[-1] <= len(retain):
            narrow.append(name)
            continue
        bases = [_outside(g, k) for g, k in zip(gone.unbind(1), kept.unbind(1), strict=True)]
        width = max(b.shape[1] for b in bases)
        if width == 0:
            spanned.append(name)
            continue
        found[name] = torch.stack([F.pad(b, (0, width - b.shape[1])) for b in bases])
    return Directions(found, tuple(narrow), tuple(spanned))


def _outside(gone: Tensor, kept: Tensor) -> Tensor:
    """Return an orthonormal basis (d, k) of the rows of `gone` (f, d), less the span of the rows of `kept` (r, d)."""
    span = _basis(kept.mT, _ROUNDING * kept.norm(dim=1).max())
    left = gone.mT - span @ (span.mT @ gone.mT)
    left = left - span @ (span.mT @ left)  # again: what the first pass left by rounding
    return _basis(left, _NEGLIGIBLE * gone.norm(dim=1).max())


def _basis(columns: Tensor, least: Tensor) -> Tensor:
    """Return an orthonormal basis of the columns' span, less directions with singular values of at most `least`."""
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    return u[:, s > least]


def take_out(
    model: nn.Module, found: Directions, strength: Mapping[str, float], convolutions: Convolutions = "patch"
) -> list[str]:
    """Replace W by W (I - s U U^T) in place at every tap that has directions; biases and frozen weights stay.

    Args:
        model: Its weights are changed.
        found: The directions U.
        strength: s per tap; 0 leaves a tap bit for bit as it is.
        convolutions: As the directions were made: over whole patches, or over channels at every place of the kernel.

    Returns:
        The names of the taps that changed.
    """
    changed = []
    with torch.no_grad():
        for tap in taps(model):
            weight = model.get_parameter(tap.parameter)
            if tap.name not in found.of or strength[tap.name] == 0 or not weight.requires_grad:
                continue
            u = found.of[tap.name].to(weight.device)
            rows = weight[tap.rows]
            flat = rows.double().reshape(tap.groups, len(rows) // tap.groups, -1)
            places = flat.shape[-1] // u.shape[1] if convolutions == "channel" else 1
            view = flat.unflatten(-1, (-1, places)).mT  # (G, outputs per group, places, d)
            v = u.unsqueeze(1)
            view = view - strength[tap.name] * (view @ v) @ v.mT
            weight[tap.rows] = view.mT.reshape(rows.shape).to(weight.dtype)
            changed.append(tap.name)
    return changed
