import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from efface.auditing.measures.block_probe import deviations_of_shares, standardised_probe
from efface.errors import InputError


def _clusters(n, d, seed=0, apart=3.0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    return apart * torch.eye(4, d)[labels] + torch.randn(n, d, generator=g), labels


@pytest.mark.parametrize("width", [6, 200])
def test_equals_scikit_learns_pipeline_also_with_more_features_than_records(width):
    train, y = _clusters(80, width)
    test, _ = _clusters(300, width, seed=1, apart=1.5)
    scale = StandardScaler().fit(train.double().numpy())
    slow = LogisticRegression(max_iter=500).fit(scale.transform(train.double().numpy()), y.numpy())
    expected = slow.predict(scale.transform(test.double().numpy()))
    found = standardised_probe(train, y, test, steps=500)
    # Records on a border may fall either way: both stop where the gradient is small, not zero.
    assert (found.numpy() == expected).mean() > 0.99


def test_scale_of_single_features_does_not_matter_and_a_constant_one_does_no_harm():
    train, y = _clusters(100, 6)
    test, _ = _clusters(200, 6, seed=1)
    factors = torch.tensor([1e-4, 1, 1e4, 1, 1, 1])
    found = standardised_probe(train, y, test, steps=500)
    assert (standardised_probe(train * factors, y, test * factors, steps=500) == found).float().mean() > 0.99
    padded = [torch.cat([x, torch.full((len(x), 1), 0.1)], 1) for x in (train, test)]
    assert (standardised_probe(padded[0], y, padded[1], steps=500) == found).float().mean() > 0.99


def test_deviations_by_hand():
    # arcsin sqrt: 0 -> 0, 1/2 -> pi/4, 1 -> pi/2, 1/4 -> pi/6, 3/4 -> pi/3.
    references = torch.tensor([[0.0, 0.25], [0.5, 0.25], [1.0, 0.25]])
    spread = (((math.pi / 4) ** 2 + 0) / 2) ** 0.5  # variances (pi/4)^2 and 0, shared
    found = deviations_of_shares(torch.tensor([1.0, 0.75]), references, 10_000)
    assert found.tolist() == pytest.approx([x / (spread * (4 / 3) ** 0.5) for x in (math.pi / 4, math.pi / 6)])


def test_the_noise_of_few_records_is_the_least_spread():
    same = torch.full((5, 1), 0.5)
    found = deviations_of_shares(torch.tensor([0.75]), same, 100)
    assert found.tolist() == pytest.approx([(math.pi / 12) / (0.05 * 1.2**0.5)])


def test_refusals():
    x, y = _clusters(20, 3)
    with pytest.raises(InputError, match="equal width"):
        standardised_probe(x, y, x[:, :2])
    with pytest.raises(InputError, match="at least two classes"):
        standardised_probe(x, torch.zeros(20, dtype=torch.int64), x)
    with pytest.raises(InputError, match="finite"):
        standardised_probe(x, y, x * float("nan"))
    with pytest.raises(InputError, match="3 models or more"):
        deviations_of_shares(torch.zeros(2), torch.zeros(2, 2), 10)
