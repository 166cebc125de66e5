"""Probes: does a new last layer find the forgotten classes in what the model still computes?

Methods that only turn an output down pass every test on the outputs and fail here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from efface.errors import InputError

__all__ = ["few_record_probe", "kept_outputs", "linear_probe"]


def _checked(train: Tensor, train_labels: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(train) != len(train_labels):
        raise InputError(
            f"A probe needs (examples, features) of equal width and a label each: got {tuple(train.shape)}, "
            f"{tuple(train_labels.shape)} and {tuple(test.shape)}."
        )
    if len(torch.unique(train_labels)) < 2:
        raise InputError("A probe tells classes apart; give training features of at least two classes.")
    if not bool(train.isfinite().all() & test.isfinite().all()):
        raise InputError("Features must be finite; look at the model's weights.")
    # One number for all features: a probe without centring, which does not depend on the features' overall scale.
    scale = train.double().pow(2).mean().sqrt().clamp_min(1e-12)
    first, second = ((x.double() / scale).numpy() for x in (train, test))
    return first, train_labels.numpy(), second


def linear_probe(
    train: Tensor, train_labels: Tensor, test: Tensor, *, strength: float = 1.0, steps: int = 100
) -> Tensor:
    """Return the classes that multinomial logistic regression on frozen features predicts.

    Features are divided by one number, their root mean square over all training entries; they are neither centred nor
    normalised one by one. The regression is scikit-learn's (L-BFGS, L2 penalty 1 / (2 `strength`) per record).

    Args:
        train: Features of training records of *all* classes, shape (records, features).
        train_labels: Their labels, shape (records,).
        test: Features of unseen records, shape (others, features).
        strength: Inverse penalty C.
        steps: Most L-BFGS steps.

    Returns:
        Predicted classes of the unseen records, int64, shape (others,).

    Raises:
        InputError: If shapes do not fit, features are not finite, or there is only one class.
    """
    x, y, z = _checked(train, train_labels, test)
    model = LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        # A probe that stops after `steps` is a probe with early stopping, the same for every model.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return torch.from_numpy(model.predict(z).astype(np.int64))


def few_record_probe(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    generator: torch.Generator,
    *,
    per_class: int = 1,
    draws: int = 100,
) -> Tensor:
    """Return how often each unseen record is given each class by heads made from a few records per class.

    Each draw takes `per_class` records of every class; an unseen record gets the class whose mean over them is nearest
    to its features. The full probe is right nearly always on any network's features, also on those of a network that
    never saw the class; with a few records the features themselves must already separate it.

    Args:
        train: Features of training records of all classes, shape (records, features).
        train_labels: Their labels, shape (records,).
        test: Features of unseen records, shape (others, features).
        generator: Where the draws come from; give an equal one for each model, so that all see the same records.
        per_class: Records of each class in each draw.
        draws: Number of draws.

    Returns:
        Shares over draws, float64, shape (others, classes), with classes up to the largest label.

    Raises:
        InputError: As in `linear_probe`, or if a class has fewer records than `per_class`.
    """
    x, y, z = (torch.from_numpy(a) for a in _checked(train, train_labels, test))
    classes = torch.unique(y)
    scarce = [int(c) for c in classes if int((y == c).sum()) < per_class]
    if scarce:
        raise InputError(f"Classes {scarce} have fewer than {per_class} training records; lower per_class.")
    prototypes = []
    for c in classes:
        positions = (y == c).nonzero().flatten()
        order = torch.rand(draws, len(positions), generator=generator).argsort(1)[:, :per_class]
        prototypes.append(x[positions[order]].mean(1))
    heads = torch.stack(prototypes, 1).flatten(0, 1)
    nearest = torch.cdist(z, heads).reshape(len(z), draws, len(classes)).argmin(2)
    votes = torch.zeros(len(z), int(classes.max()) + 1, dtype=torch.float64)
    return votes.scatter_add_(1, classes[nearest], torch.full(nearest.shape, 1 / draws, dtype=torch.float64))


def kept_outputs(logits: Tensor, forgotten: Iterable[int]) -> Tensor:
    """Return the log-probabilities of the kept classes, with the forgotten classes' logits removed.

    log softmax over kept classes only, floored at -50: what an outsider sees who rules the forgotten classes out.
    Turning a forgotten class's logit up or down does not change it.

    Args:
        logits: Shape (examples, classes).
        forgotten: Classes to remove.

    Returns:
        Shape (examples, kept classes), float64.

    Raises:
        InputError: If fewer than two classes are kept.
    """
    gone = set(forgotten)
    kept = [c for c in range(logits.shape[1]) if c not in gone]
    if len(kept) < 2:
        raise InputError(f"{len(kept)} kept classes leave nothing to look at; at least 2 are needed.")
    return logits[:, kept].double().log_softmax(1).clamp_min(-50)
