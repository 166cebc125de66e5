"""A probe at every block: what each stage of a network still holds, against what retrained models' stages hold."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from efface.errors import InputError

__all__ = ["LEAST_MODELS", "deviations_of_shares", "standardised_probe"]

LEAST_MODELS = 3
"""References from which a spread over models is estimated."""


def standardised_probe(train: Tensor, labels: Tensor, test: Tensor, *, steps: int = 50) -> Tensor:
    """Return the classes that logistic regression on standardised features predicts.

    Each feature is centred and divided by its standard deviation over the training records (1 where it is constant).
    The regression is scikit-learn's (L-BFGS, L2 penalty 1/2 per record, at most `steps` steps). With fewer records than
    features it is fitted in the records' own span, which holds the solution: the answer is the same, and sooner.

    Args:
        train: Shape (records, features).
        labels: Theirs, shape (records,), at least two classes.
        test: Shape (others, features).
        steps: Most L-BFGS steps.

    Returns:
        int64, shape (others,).

    Raises:
        InputError: The shapes do not fit, a feature is not finite, or there is but one class.

    Source: RULER, arXiv 2605.27569.
    """
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(train) != len(labels):
        raise InputError(
            f"A probe needs (records, features) of equal width and a label each: got {tuple(train.shape)}, "
            f"{tuple(labels.shape)} and {tuple(test.shape)}."
        )
    if not bool(train.isfinite().all() & test.isfinite().all()):
        raise InputError("Features must be finite; look at the model's weights.")
    if len(labels.unique()) < 2:
        raise InputError("A probe tells classes apart; give training features of at least two classes.")
    wide, other = train.double(), test.double()
    spread = wide.std(0, correction=0)
    spread = torch.where(spread > 1e-9 * wide.abs().amax(0), spread, torch.ones_like(spread))
    wide, other = (wide - wide.mean(0)) / spread, (other - wide.mean(0)) / spread
    if len(wide) < wide.shape[1]:
        basis, _ = torch.linalg.qr(wide.T)
        wide, other = wide @ basis, other @ basis
    model = LogisticRegression(max_iter=steps)
    with warnings.catch_warnings():
        # A probe that stops after `steps` is a probe with early stopping, the same for every model.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(wide.numpy(), labels.numpy())
    return torch.from_numpy(model.predict(other.numpy()).astype(np.int64))


def deviations_of_shares(candidate: Tensor, references: Tensor, answers: int) -> Tensor:
    """Return how far a model's shares lie from those of references, in standard deviations.

    d_b = (a(r_b) - mean over references of a) / (s sqrt(1 + 1/N)), a(r) = arcsin sqrt(r), which makes the noise of a
    share the same everywhere. s is shared by all shares, the root of the mean over them of the references' variance
    (a spread from a few models is worse than one from all shares), and at least sqrt(1 / 4n), the noise of n answers.

    Args:
        candidate: From 0 to 1, shape (shares,).
        references: The same of other models, shape (models, shares).
        answers: How many each share is of: records, times draws of a probe.

    Returns:
        float64, shape (shares,).

    Raises:
        InputError: Fewer than three references, no answer, or the shapes differ.
    """
    if references.ndim != 2 or references.shape[1:] != candidate.shape or len(references) < LEAST_MODELS or answers < 1:
        raise InputError(
            f"{tuple(candidate.shape)} shares of {answers} answers are compared with those of {LEAST_MODELS} models or "
            f"more; got {tuple(references.shape)}."
        )
    ours, theirs = (x.double().clamp(0, 1).sqrt().asin() for x in (candidate, references))
    spread = max(float(theirs.var(0).mean()), 1 / (4 * answers)) ** 0.5
    return (ours - theirs.mean(0)) / (spread * (1 + 1 / len(references)) ** 0.5)
