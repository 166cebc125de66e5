import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from efface.auditing.measures.intervals import percentiles
from efface.auditing.measures.roc import attack_gap, auc, auc_draws, auc_over_models, least_supported_fpr, tpr_at_fpr
from efface.errors import InputError


def _normal(n, seed, mean=0.0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def _interval(members, others, *, seed, resamples):
    draws = auc_draws(members, others, torch.Generator().manual_seed(seed), resamples)
    return percentiles(auc(members, others), draws, 0.95)


def test_auc_counts_pairs_with_ties_as_one_half():
    a, b = torch.tensor([1.0, 2.0, 2.0, math.inf]), torch.tensor([2.0, 0.0, -math.inf])
    pairs = [float(x > y) + 0.5 * float(x == y) for x in a for y in b]
    assert auc(a, b) == pytest.approx(np.mean(pairs))
    assert auc(b, a) == pytest.approx(1 - np.mean(pairs))


def test_auc_of_separated_gaussians_is_the_analytic_value():
    found = _interval(_normal(4000, 0, 1.0), _normal(4000, 1), seed=2, resamples=200)
    assert found.low < norm.cdf(1 / math.sqrt(2)) < found.high
    assert found.high - found.low < 0.03


def test_identical_distributions_give_one_half_and_the_interval_covers_it():
    inside = 0
    for seed in range(100):
        found = _interval(_normal(60, 2 * seed), _normal(60, 2 * seed + 1), seed=seed, resamples=300)
        inside += found.low <= 0.5 <= found.high
    # Nominal 95 of 100; 88 is three standard errors below.
    assert inside >= 88


def test_low_auc_is_reported_as_low_not_folded_or_reversed():
    """A true-negative rate printed as "low is good" turns this around: rejected forget records must score below 1/2."""
    assert auc(_normal(200, 0, -3), _normal(200, 1)) < 0.05


def test_bootstrap_draws_equal_a_loop_over_the_same_resamples():
    a, b = _normal(15, 0, 0.5).round(decimals=1), _normal(12, 1).round(decimals=1)
    fast = auc_draws(a, b, torch.Generator().manual_seed(5), 20)
    g = torch.Generator().manual_seed(5)
    first, second = torch.randint(15, (20, 15), generator=g), torch.randint(12, (20, 12), generator=g)
    truth = [1] * 15 + [0] * 12
    slow = [roc_auc_score(truth, torch.cat([a[i], b[j]]).numpy()) for i, j in zip(first, second, strict=True)]
    torch.testing.assert_close(fast, torch.tensor(slow, dtype=torch.float64))


def test_gap_is_paired():
    a, b = _normal(300, 0, 1.0), _normal(300, 1)
    same = attack_gap((a, b), (a, b), torch.Generator().manual_seed(0))
    assert same == (0, 0, 0)
    shifted = attack_gap((a, b), (a - 2, b), torch.Generator().manual_seed(0))
    assert shifted.low > 0.3
    with pytest.raises(InputError, match="same records"):
        attack_gap((a, b), (a[1:], b), torch.Generator())


def test_tpr_at_fpr_is_the_analytic_value_and_never_exceeds_the_rate():
    a, b = _normal(20_000, 0, 2.0), _normal(20_000, 1)
    # Standard error from both samples at this point of the curve is about 0.006.
    assert tpr_at_fpr(a, b, 0.01) == pytest.approx(norm.sf(norm.isf(0.01) - 2), abs=0.02)
    rates = [tpr_at_fpr(_normal(50, s), _normal(50, s + 500), 0.1) for s in range(300)]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.03)


def test_ties_are_not_split():
    # All scores equal: a threshold takes everybody or nobody, so no rate below 1 finds a member.
    assert tpr_at_fpr(torch.ones(100), torch.ones(100), 0.5) == 0


def test_too_few_negatives_are_refused_and_the_least_rate_is_stated():
    assert least_supported_fpr(50) == 0.02
    with pytest.raises(InputError, match=r"least supported rate is 0\.02"):
        tpr_at_fpr(_normal(50, 0), _normal(50, 1), 0.01)


def test_empty_and_nan_groups_are_refused():
    with pytest.raises(InputError, match="at least one of each"):
        auc(torch.empty(0), torch.ones(1))
    with pytest.raises(InputError, match="NaN"):
        auc(torch.tensor([math.nan]), torch.ones(1))


@pytest.mark.seconds
def test_gap_intervals_are_percentiles_of_paired_draws():
    """Against a loop over the same resamples, with another interval than the default one."""
    a, b, c, d = _normal(15, 0, 0.5), _normal(12, 1), _normal(15, 2), _normal(12, 3)
    found = attack_gap((a, b), (c, d), torch.Generator().manual_seed(5), resamples=300, confidence=0.8)
    g = torch.Generator().manual_seed(5)
    first, second = torch.randint(15, (300, 15), generator=g), torch.randint(12, (300, 12), generator=g)
    slow = [auc(a[i], b[j]) - auc(c[i], d[j]) for i, j in zip(first, second, strict=True)]
    assert found.value == pytest.approx(auc(a, b) - auc(c, d))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.1, 0.9])))
    with pytest.raises(InputError, match="same records"):
        attack_gap((a, b), (c, d[1:]), torch.Generator())


def test_a_gap_is_judged_at_95_percent_on_a_thousand_draws_unless_told():
    a, b, c, d = _normal(15, 0, 0.5), _normal(12, 1), _normal(15, 2), _normal(12, 3)
    told = attack_gap((a, b), (c, d), torch.Generator().manual_seed(5), resamples=1000, confidence=0.95)
    assert attack_gap((a, b), (c, d), torch.Generator().manual_seed(5)) == told


def test_rates_by_hand():
    members, others = torch.tensor([5.0, 4.0, 3.0, 1.0]), torch.tensor([4.5, 2.0, 0.0, -1.0])
    # Thresholds in turn let through 0, 1, 2, 3, 4 of the others.
    assert [tpr_at_fpr(members, others, f) for f in (0.25, 0.4999, 0.5, 0.75, 1.0)] == [0.75, 0.75, 1, 1, 1]
    assert tpr_at_fpr(others, members, 0.25) == 0.25
    assert least_supported_fpr(1) == 1
    with pytest.raises(InputError, match="at least one"):
        least_supported_fpr(0)
    with pytest.raises(InputError, match=r"at least 10 held-out records; with 4 the least supported rate is 0\.25"):
        tpr_at_fpr(members, others, 0.1)


def test_both_groups_are_checked():
    for groups in ((torch.empty(0), torch.ones(1)), (torch.ones(1), torch.empty(0))):
        with pytest.raises(InputError, match="at least one of each"):
            auc(*groups)
    with pytest.raises(InputError, match="got 1 forget and 0 held-out"):
        auc(torch.ones(1), torch.empty(0))
    for groups in ((torch.tensor([math.nan]), torch.ones(1)), (torch.ones(1), torch.tensor([math.nan]))):
        with pytest.raises(InputError, match="NaN"):
            auc(*groups)


def test_auc_over_models_is_the_mean_and_its_influence_the_jackknife():
    g = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(30, generator=g).round(decimals=1), torch.randn(4, 30, generator=g).round(decimals=1)
    value, influence = auc_over_models(ours, theirs)
    assert value == pytest.approx(sum(auc(ours, r) for r in theirs) / 4)
    assert float(influence.mean()) == pytest.approx(0, abs=1e-12)

    # Leaving out one record changes a by -influence / (n - 1), up to terms of 1 / n^2.
    def without(i):
        rest = torch.arange(30) != i
        return auc_over_models(ours[rest], theirs[:, rest])[0]

    change = torch.tensor([29 * (value - without(i)) for i in range(30)], dtype=torch.float64)
    torch.testing.assert_close(change, influence, atol=0.06, rtol=0)
    assert auc_over_models(ours, ours[None])[0] == pytest.approx(0.5)
    with pytest.raises(InputError, match="same records"):
        auc_over_models(ours, theirs[0])
