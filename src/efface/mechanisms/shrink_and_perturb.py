"""Shrink and perturb: mix a trained network's weights with those of a fresh initialisation, and rows drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.head import head_of
from efface.models.reset import reset
from efface.running.run import Run

__all__ = ["Noise", "by_depth", "fresh_weights", "redraw_rows", "require_reset", "shrink_and_perturb"]

Noise = Literal["initial", "xavier"]
"""What is mixed in: the modules' own initialisation, or Xavier-uniform matrices and zeros for vectors."""


def by_depth(names: Sequence[str], first: float, last: float | None) -> dict[str, float]:
    """Return a value per name: `first` for the first one, `last` for the last, linear in between; equal without `last`.

    Args:
        names: In the order of depth.
        first: Value of the first.
        last: Value of the last, or None.
    """
    end = first if last is None else last
    return {name: first + (end - first) * (i / max(1, len(names) - 1)) for i, name in enumerate(names)}


def require_reset(model: nn.Module, method: str) -> None:
    """Raise if some module cannot be initialised anew.

    Raises:
        InputError: Modules own parameters and have no `reset_parameters`; they are named.
    """
    try:
        reset(model, 0)
    except InputError as error:
        raise InputError(f"{method} draws fresh weights. {error} Or use scrub, which needs none") from None


def fresh_weights(model: nn.Module, run: Run, purpose: str, noise: Noise = "initial") -> dict[str, Tensor]:
    """Return freshly drawn parameters by name, on the model's device.

    Args:
        model: Gives architecture and shapes; not changed.
        run: Gives randomness.
        purpose: Names the draw.
        noise: `initial` as the modules initialise themselves; `xavier` as the official code of UNDO: matrices (and
            kernels) Xavier-uniform, vectors zero.

    Raises:
        InputError: As `reset`, for `initial`.
    """
    if noise == "initial":
        random_model = reset(model, run.number(purpose))
        return {name: p.detach().clone() for name, p in random_model.named_parameters()}
    generator = run.generator(purpose)
    drawn = {}
    for name, p in model.named_parameters():
        drawn[name] = torch.zeros(p.shape)
        if p.ndim > 1:
            nn.init.xavier_uniform_(drawn[name], generator=generator)
        drawn[name] = drawn[name].to(p)
    return drawn


def shrink_and_perturb(
    model: nn.Module, fresh: Mapping[str, Tensor], alpha: float, alpha_last: float | None = None, beta: float = 1.0
) -> None:
    """Replace every trainable parameter by (1 - alpha) theta + alpha beta N, in place.

    With alpha = beta = 1 the weights are N, bit for bit; with alpha = 0 nothing is touched.

    Args:
        model: Changed; frozen parameters stay.
        fresh: N by name.
        alpha: Of the first module with parameters.
        alpha_last: Of the last one, linear in between; the same everywhere if None.
        beta: Scale of the noise.
    """
    modules = [name for name, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None]
    share = by_depth(modules, alpha, alpha_last)
    with torch.no_grad():
        for name, p in model.named_parameters():
            a = share[name.rpartition(".")[0]]
            if a and p.requires_grad:
                p.copy_(torch.lerp(p, beta * fresh[name], a))  # lerp ends exactly on N at 1


def redraw_rows(
    model: nn.Module,
    fresh: Mapping[str, Tensor],
    classes: Sequence[int],
    input_shape: Sequence[int],
    mean: Tensor | None = None,
    logit: float = -15.0,
) -> None:
    """Draw the head's rows and biases of some classes anew, in place: w <- N - kappa m, b <- N's.

    kappa is such that the row's logit at m is `logit`; it is never negative. A lowered bias would name the class.

    Args:
        model: Changed; a frozen head stays.
        fresh: Freshly drawn parameters by name.
        classes: Whose rows.
        input_shape: Shape of one input, to find the head.
        mean: m (d,): mean input of the head over retained classes; without it kappa is 0.
        logit: Wanted logit at m.

    Raises:
        InputError: The logits do not come from a linear layer.
    """
    name, layer = head_of(model, input_shape)
    dot = f"{name}." if name else ""
    with torch.no_grad():
        for c in classes:
            row = fresh[f"{dot}weight"][c].clone()
            bias = fresh[f"{dot}bias"][c] if layer.bias is not None else row.new_zeros(())
            if mean is not None:
                m = mean.to(row)
                row -= ((row @ m + bias - logit) / (m @ m).clamp(min=1e-12)).clamp(min=0) * m
            if layer.weight.requires_grad:
                layer.weight[c] = row
            if layer.bias is not None and layer.bias.requires_grad:
                layer.bias[c] = bias
