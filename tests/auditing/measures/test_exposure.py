"""Deviations of single records, against loops."""

import math

import numpy as np
import pytest
import torch

from efface.auditing.measures.exposure import PRIOR, deviations, largest, largest_beside_unseen
from efface.errors import InputError


def test_the_variance_lies_between_the_records_own_and_the_shared_one():
    g = torch.Generator().manual_seed(0)
    retrained = torch.randn(6, 40, generator=g, dtype=torch.float64) * torch.linspace(0.1, 3, 40)
    candidate = torch.randn(40, generator=g, dtype=torch.float64)
    found, expected, _ = deviations(candidate, retrained)
    own = [np.var(retrained[:, i].numpy(), ddof=1) for i in range(40)]
    for i in range(40):
        variance = (PRIOR * np.mean(own) + 5 * own[i]) / (PRIOR + 5)
        by_hand = (float(candidate[i]) - float(retrained[:, i].mean())) / math.sqrt(variance * (1 + 1 / 6))
        assert float(found[i]) == pytest.approx(by_hand, abs=1e-9)
    torch.testing.assert_close(expected, retrained.mean(0))


def test_the_largest_keeps_its_sign():
    assert largest(torch.tensor([1.0, -4.0, 3.0])) == -4
    assert largest(torch.tensor([1.0, 4.0, -3.0])) == 4


def test_beside_unseen_records_by_hand():
    # Of 3 records, the 3/4 quantile of five unseen sizes 1 to 5 is 4.
    forget, unseen = torch.tensor([1.0, -8.0, 2.0]), torch.tensor([3.0, -1.0, 5.0, -4.0, 2.0])
    assert largest_beside_unseen(forget, unseen) == -2
    assert largest_beside_unseen(-forget, unseen) == 2
    for bad in ((forget[:0], unseen), (forget, unseen[:0]), (forget, torch.zeros(4))):
        with pytest.raises(InputError, match="unseen records"):
            largest_beside_unseen(*bad)


def test_two_models_that_saw_neither_kind_come_out_near_one():
    g = torch.Generator().manual_seed(1)
    sizes = [
        abs(largest_beside_unseen(torch.randn(91, generator=g), torch.randn(360, generator=g))) for _ in range(200)
    ]
    # The median of a maximum of 91 normal sizes is near their 91/92 quantile; none is far above.
    assert 0.9 < float(np.median(sizes)) < 1.2
    assert max(sizes) < 2
