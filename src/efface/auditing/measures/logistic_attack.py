"""The 2023 challenge's attack: cross-validated logistic regression on the loss."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

from efface.auditing.measures.roc import two_groups
from efface.errors import InputError

__all__ = ["logistic_attack"]


def logistic_attack(members: Tensor, others: Tensor, seed: int, *, folds: int = 5) -> float:
    """Return the balanced accuracy of a cross-validated logistic regression on the loss (the 2023 challenge's attack).

    Each record is judged by a regression that was not fitted on it. The loss is log(1 + exp(-m)), clipped at 100.

    Args:
        members: Margins of the forget records.
        others: Margins of held-out records.
        seed: Seed of the shuffled folds.
        folds: At most the size of the smaller group.

    Returns:
        In [0, 1]; one half is chance.

    Raises:
        InputError: If a group holds fewer than two records.
    """
    first, second = two_groups(members, others)
    n = min(len(first), len(second))
    if n < 2:
        raise InputError(f"A cross-validated attack needs two records of each group; the smaller has {n}.")
    margin = torch.cat([first, second])
    loss = torch.nn.functional.softplus(-margin.clamp(-100, 100)).unsqueeze(1).numpy()
    truth = torch.cat([torch.ones(len(first)), torch.zeros(len(second))]).numpy()
    splits = StratifiedKFold(min(folds, n), shuffle=True, random_state=seed)
    model = LogisticRegression(class_weight="balanced")
    return float(cross_val_score(model, loss, truth, cv=splits, scoring="balanced_accuracy").mean())
