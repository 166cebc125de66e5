"""Bands: where one more retrained model would score, on the scale on which scores vary alike."""

from __future__ import annotations

import math
from typing import Literal

import torch
from scipy import stats
from torch import Tensor

from efface.auditing.measures.intervals import Interval
from efface.errors import InputError

__all__ = ["Scale", "band", "band_ends", "pair_band"]

Scale = Literal["linear", "share", "size"]


def band_ends(
    values: Tensor, confidence: float, *, least: float = 0.0, models: int | None = None, skewed: bool = True
) -> Tensor:
    """Return where one more value would fall: Student's interval, widened on the side to which the values lean.

    mean -+ s sqrt(1 + 1/n) (t + (t^2 - 1) g / 6), t of n - 1 degrees, with g the sample skewness (adjusted
    Fisher-Pearson) on the long side and 0 on the other; and never narrower than the values themselves. Of pairs of N
    models, t has N - 1 degrees, s^2 is multiplied by (N + 1) / (N - 1), because pairs that share a model lie closer
    together, and 1/n becomes 2/N.

    Args:
        values: Shape (..., n), n at least 2: of n models, or of pairs of `models`.
        confidence: Share of further values inside, were they normal; see docs/metrics.md for others.
        least: Smallest spread that is believed, e.g. of a count's rounding.
        models: How many models the values are pairs of; None where each value is one model's.
        skewed: Whether the long side is widened.

    Returns:
        float64, shape (2, ...): the lower and the upper ends.

    Raises:
        InputError: Fewer than two values or models, or a confidence that is no share.

    Source: The second term is the first of Cornish and Fisher's expansion (1937), which here only widens.
    """
    n = values.shape[-1]
    of = n if models is None else models
    if n < 2 or of < 2 or not 0 < confidence < 1:
        raise InputError(f"{n} values of {of} models at a confidence of {confidence} have no band; give two or more.")
    wide = values.double()
    mean, spread = wide.mean(-1), wide.std(-1)
    t = float(stats.t.ppf(0.5 + confidence / 2, of - 1))
    lean = torch.zeros_like(mean)
    if skewed and n > 2:
        deviation = wide - mean.unsqueeze(-1)
        root = deviation.square().mean(-1).sqrt().clamp_min(1e-300)
        lean = (deviation / root.unsqueeze(-1)).pow(3).mean(-1) * math.sqrt(n * (n - 1)) / (n - 2)
    alike, share = (1.0, 1 / n) if models is None else (math.sqrt((of + 1) / (of - 1)), 2 / of)
    reach = (spread * alike).clamp_min(least) * math.sqrt(1 + share)
    extra = max(0.0, t * t - 1) / 6
    low = mean - reach * (t + extra * (-lean).clamp_min(0))
    high = mean + reach * (t + extra * lean.clamp_min(0))
    return torch.stack([torch.minimum(low, wide.amin(-1)), torch.maximum(high, wide.amax(-1))])


def band(values: Tensor, confidence: float, *, scale: Scale = "linear", least: float = 0.0) -> Interval:
    """Return the mean of models' scores and where one more model would score.

    Args:
        values: One per model, shape (models,).
        confidence: Share of further models inside.
        scale: `share` judges arcsin sqrt x, on which the noise of a share is the same everywhere; `size` the logarithm
            of the size of a signed score, as a band around 0.
        least: Smallest spread that is believed, on that scale.

    Returns:
        With one value only, both ends are NaN: one model says nothing about the spread.

    Raises:
        InputError: If there is no value.
    """
    return _on_scale(values, confidence, scale, least, None)


def pair_band(values: Tensor, confidence: float, *, scale: Scale = "linear", least: float = 0.0) -> Interval:
    """Return the same of a score that compares two models, from all pairs of models that were trained alike.

    Args:
        values: One per pair, shape (N (N - 1) / 2,) of N models.
        confidence: Share of further pairs inside.
        scale: As in `band`.
        least: As in `band`.
    """
    return _on_scale(values, confidence, scale, least, (1 + math.isqrt(1 + 8 * values.numel())) // 2)


def _on_scale(values: Tensor, confidence: float, scale: Scale, least: float, models: int | None) -> Interval:
    wide = values.double().flatten()
    if not len(wide):
        raise InputError("There is no value to average; give the score of at least one model.")
    mean = 0.0 if scale == "size" else float(wide.mean())
    if len(wide) < 2:
        return Interval(mean, math.nan, math.nan)
    if scale == "size":
        sizes = wide.abs().clamp_min(1e-12).log()
        # The logarithm has taken the skew out; widening on top of it would square the factor by which one stands out.
        high = math.exp(float(band_ends(sizes, confidence, least=least, models=models, skewed=False)[1]))
        return Interval(mean, -high, high)
    if scale == "share":
        turned = wide.clamp(0, 1).sqrt().asin()
        ends = band_ends(turned, confidence, least=least, models=models).clamp(0, math.pi / 2)
        low, high = (ends.sin() ** 2).tolist()
        # Where the turned ends are the values themselves, rounding must not leave those outside.
        return Interval(mean, min(low, float(wide.min())), max(high, float(wide.max())))
    low, high = band_ends(wide, confidence, least=least, models=models).tolist()
    return Interval(mean, low, high)
