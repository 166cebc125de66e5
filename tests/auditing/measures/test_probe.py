import math
import warnings

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from efface.auditing.measures.probe import few_record_probe, kept_outputs, linear_probe
from efface.auditing.measures.separation import class_separation
from efface.errors import InputError


def _clusters(n, k, d, spread, seed=0, apart=4.0):
    g = torch.Generator().manual_seed(seed)
    centres = apart * torch.eye(k, d)
    labels = torch.arange(n) % k
    return centres[labels] + spread * torch.randn(n, d, generator=g), labels


def test_probe_finds_separable_classes_and_not_noise():
    x, y = _clusters(300, 5, 8, 0.5)
    z, w = _clusters(100, 5, 8, 0.5, seed=1)
    assert (linear_probe(x, y, z) == w).double().mean() > 0.98
    noise = torch.randn(300, 8, generator=torch.Generator().manual_seed(2))
    assert (linear_probe(noise, y, z) == w).double().mean() < 0.45


def test_probe_does_not_depend_on_the_scale_of_the_features():
    x, y = _clusters(200, 4, 6, 2.0)
    z, _ = _clusters(80, 4, 6, 2.0, seed=1)
    for factor in (1000, 0.001):
        assert torch.equal(linear_probe(x, y, z), linear_probe(factor * x, y, factor * z))


def test_few_record_probe_votes_over_draws_and_is_reproducible():
    x, y = _clusters(200, 4, 6, 3.0)
    z, w = _clusters(80, 4, 6, 3.0, seed=1)
    one, two = (few_record_probe(x, y, z, torch.Generator().manual_seed(3), per_class=2, draws=5) for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(one.sum(1), torch.ones(80, dtype=torch.float64))
    assert set((one * 5).round().unique().tolist()) <= {0, 1, 2, 3, 4, 5}
    slow = torch.zeros(80, 4, dtype=torch.float64)
    for seed in range(1000):
        g = torch.Generator().manual_seed(seed)
        means = torch.stack([x[y == c][torch.randperm(50, generator=g)[:2]].mean(0) for c in range(4)])
        slow[torch.arange(80), (z.unsqueeze(1) - means).norm(dim=2).argmin(1)] += 1 / 1000
    many = few_record_probe(x, y, z, torch.Generator().manual_seed(4), per_class=2, draws=2000)
    # Shares over 1000 and 2000 draws: standard error at most 0.02, four of them for the worst of 320.
    assert (many - slow).abs().max() < 0.08
    recall = one[torch.arange(80), w].mean()
    assert recall < (linear_probe(x, y, z) == w).double().mean()
    with pytest.raises(InputError, match="fewer than 60"):
        few_record_probe(x, y, z, torch.Generator(), per_class=60)


def test_kept_outputs_do_not_see_the_forgotten_logit():
    z = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    masked = z.clone()
    masked[:, 2] = -1e4
    assert torch.equal(kept_outputs(z, [2]), kept_outputs(masked, [2]))
    torch.testing.assert_close(kept_outputs(z, [2]).exp().sum(1), torch.ones(10, dtype=torch.float64))
    with pytest.raises(InputError, match="at least 2"):
        kept_outputs(z, [0, 1, 2, 3])


def test_bad_features_are_refused():
    x, y = _clusters(20, 2, 3, 1.0)
    with pytest.raises(InputError, match="equal width"):
        linear_probe(x, y, x[:, :2])
    with pytest.raises(InputError, match="two classes"):
        linear_probe(x, torch.zeros_like(y), x)
    with pytest.raises(InputError, match="finite"):
        linear_probe(x * torch.nan, y, x)
    with pytest.raises(InputError, match="do not vary"):
        class_separation(torch.ones(20, 3), y, [0])
    with pytest.raises(InputError, match="kept class"):
        class_separation(x, y, [0, 1])


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 100), (0.01, 100), (1.0, 2)])
def test_the_probe_is_scikit_learns_regression_on_features_over_their_root_mean_square(strength, steps):
    x, y = _clusters(120, 4, 6, 3.0)
    z, _ = _clusters(200, 4, 6, 3.0, seed=1)
    x, z = x + 2, z + 2
    scale = math.sqrt(float(x.double().pow(2).mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=steps).fit((x.double() / scale).numpy(), y.numpy())
    found = linear_probe(x, y, z, strength=strength, steps=steps)
    assert found.tolist() == model.predict((z.double() / scale).numpy()).tolist()
    assert found.dtype == torch.int64
    if (strength, steps) == (1.0, 100):
        assert torch.equal(linear_probe(x, y, z), found)


def test_few_records_are_one_of_each_class_in_a_hundred_draws_unless_told():
    x, y = _clusters(40, 4, 6, 3.0)
    told = few_record_probe(x, y, x, torch.Generator().manual_seed(0), per_class=1, draws=100)
    assert torch.equal(few_record_probe(x, y, x, torch.Generator().manual_seed(0)), told)
    # All ten of each class: every draw is the same, the class whose mean is nearest.
    whole = few_record_probe(x, y, x, torch.Generator(), per_class=10, draws=3)
    means = torch.stack([x[y == c].mean(0) for c in range(4)])
    assert whole.argmax(1).tolist() == torch.cdist(x, means).argmin(1).tolist()
    assert set(whole.round(decimals=9).flatten().tolist()) == {0, 1}


def test_votes_are_for_the_labels_themselves_also_where_some_are_missing():
    x, y = _clusters(40, 2, 3, 0.01)
    votes = few_record_probe(x, 1 + 2 * y, x, torch.Generator())
    assert votes.shape == (40, 4)
    assert votes.argmax(1).tolist() == (1 + 2 * y).tolist()
    with pytest.raises(InputError, match=r"Classes \[3\] have fewer than 2"):
        few_record_probe(x[:21], torch.tensor([1] * 20 + [3]), x, torch.Generator(), per_class=2)


def test_kept_outputs_are_log_probabilities_with_a_floor():
    z = torch.tensor([[1.0, 9.0, 2.0, 0.0], [0.0, 0.0, 200.0, 100.0]])
    total = math.log(math.exp(1) + math.exp(2) + math.exp(0))
    expected = [[1 - total, 2 - total, 0 - total], [-50, 0, -50]]
    found = kept_outputs(z, [1])
    assert found.dtype == torch.float64
    assert found.tolist() == [pytest.approx(row) for row in expected]
    assert kept_outputs(z, [0, 1]).shape == (2, 2)
    with pytest.raises(InputError, match="1 kept classes"):
        kept_outputs(z, [0, 1, 2])


def test_shapes_that_do_not_fit_are_refused_one_by_one():
    x, y = _clusters(20, 2, 3, 1.0)
    for train, labels, test in ((x[:, 0], y, x), (x, y, x[0]), (x, y[1:], x), (x, y, x[:, :2])):
        with pytest.raises(InputError, match="equal width"):
            linear_probe(train, labels, test)
    with pytest.raises(InputError, match="finite"):
        linear_probe(x, y, x / 0)
