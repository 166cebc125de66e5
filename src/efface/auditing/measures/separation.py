"""How far forgotten classes stand apart in the features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from efface.auditing.measures.intervals import bootstrap_counts
from efface.errors import InputError

__all__ = ["class_separation"]


def class_separation(
    features: Tensor,
    labels: Tensor,
    forgotten: Iterable[int],
    generator: torch.Generator | None = None,
    resamples: int = 0,
) -> Tensor:
    """Return how far the forgotten classes stand apart from the kept ones, in units of the spread within classes.

    mean over f of min over kept k of |mu_f - mu_k|^2 / W, with W the mean over classes of the trace of the covariance
    and the squared distances freed of their bias W_f / n_f + W_k / n_k. Unlike a probe's recall it never saturates; it
    does not change when the features are rotated, shifted or scaled as a whole. A measure of ours, not a published one.

    Args:
        features: Of training records of all classes, shape (records, features).
        labels: Shape (records,).
        forgotten: The forgotten classes.
        generator: Where bootstrap resamples of the forgotten classes' records come from.
        resamples: How many.

    Returns:
        The value, followed by those of the resamples: float64, shape (1 + resamples,).

    Raises:
        InputError: If a forgotten class has fewer than two records, no other class is there, or features do not vary.
    """
    gone = sorted(set(forgotten))
    x = features.double()
    kept = [c for c in labels.unique().tolist() if c not in gone]
    if not kept or any(int((labels == c).sum()) < 2 for c in gone):
        raise InputError(f"Separation needs two records of each of the classes {gone} and some of a kept class.")
    means, spreads, counts = {}, {}, {}
    for c in (*gone, *kept):
        own = x[labels == c]
        means[c], counts[c] = own.mean(0), len(own)
        spreads[c] = (own - means[c]).pow(2).sum() / max(len(own) - 1, 1)
    within = torch.stack(list(spreads.values())).mean()
    if not bool(within > 0) or not bool(within.isfinite()):
        raise InputError("The features do not vary within classes (or are not finite), so no distance has a unit.")
    centres = torch.stack([means[k] for k in kept])
    bias = torch.stack([spreads[k] / counts[k] for k in kept])
    found = torch.zeros(1 + resamples, dtype=torch.float64)
    for c in gone:
        own = x[labels == c]
        drawn = [means[c].unsqueeze(0)]
        if generator is not None and resamples:
            drawn += [w @ own / len(own) for w in bootstrap_counts(len(own), resamples, generator)]
        squared = torch.cdist(torch.cat(drawn), centres, compute_mode="donot_use_mm_for_euclid_dist").pow(2) - bias
        own_bias = torch.full((1 + resamples,), 2 * float(spreads[c]) / counts[c], dtype=torch.float64)
        own_bias[0] /= 2
        found += (squared.amin(1) - own_bias) / within / len(gone)
    return found
