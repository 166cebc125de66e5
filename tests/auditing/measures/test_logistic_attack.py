import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from efface.auditing.measures.logistic_attack import logistic_attack
from efface.errors import InputError


def _normal(n, seed, mean=0.0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


@pytest.mark.seconds
def test_logistic_attack_is_cross_validated():
    found = [logistic_attack(_normal(40, s), _normal(40, s + 900), s) for s in range(40)]
    # In-sample fitting would push the mean above one half by about 0.05; three standard errors are 0.03.
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)
    assert logistic_attack(_normal(100, 0, 4), _normal(100, 1, -4), 0) > 0.95
    with pytest.raises(InputError, match="two records"):
        logistic_attack(_normal(1, 0), _normal(5, 1), 0)


def test_logistic_attack_equals_scikit_learns_on_the_loss():
    """Groups of unequal size, infinite margins, and the folds' seed."""
    members, others = torch.cat([_normal(23, 0, 1), torch.tensor([math.inf])]), _normal(11, 1)
    for seed, folds in ((0, 5), (3, 4)):
        loss = np.logaddexp(0, -torch.cat([members.clamp(max=100), others]).numpy())[:, None]
        truth = np.r_[np.ones(24), np.zeros(11)]
        scores = []
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(loss, truth):
            answers = LogisticRegression(class_weight="balanced").fit(loss[train], truth[train]).predict(loss[test])
            right = [np.mean(answers[truth[test] == k] == k) for k in (0, 1)]
            scores.append(np.mean(right))
        assert logistic_attack(members, others, seed, folds=folds) == pytest.approx(np.mean(scores))
    assert logistic_attack(members, others, 0) == logistic_attack(members, others, 0, folds=5)
    assert 0 <= logistic_attack(_normal(2, 0), _normal(9, 1), 0) <= 1
