import math

import pytest
import torch
from scipy import stats

from efface.auditing.measures.intervals import (
    bootstrap_counts,
    bootstrap_mean,
    paired_gap,
    percentiles,
    prediction_interval,
    t_interval,
    wilson,
)
from efface.errors import InputError


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (8, 10), (10, 10), (3, 1000)])
def test_shares_equal_scipys(hits, n):
    theirs = stats.binomtest(hits, n).proportion_ci(0.9, "wilson")
    assert wilson(hits, n, 0.9) == pytest.approx((hits / n, theirs.low, theirs.high), abs=1e-12)


def test_wilson_has_a_width_where_all_is_right():
    assert wilson(50, 50).low < 0.95
    assert wilson(50, 50).high == 1


def test_wilson_covers_as_often_as_it_says():
    # Exact coverage, summed over the binomial: Wilson's is nominal on average over p, within 0.02 at n = 40.
    covered = []
    for p in torch.linspace(0.05, 0.95, 37).tolist():
        inside = [wilson(k, 40).low <= p <= wilson(k, 40).high for k in range(41)]
        covered.append(sum(stats.binom.pmf(k, 40, p) for k in range(41) if inside[k]))
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.02)


def test_t_interval_equals_scipys_and_one_seed_says_nothing():
    x = torch.tensor([0.9, 0.92, 0.95, 0.91])
    low, high = stats.t.interval(0.95, 3, loc=x.mean().item(), scale=stats.sem(x.numpy()))
    assert t_interval(x) == pytest.approx((x.mean().item(), low, high), abs=1e-6)
    assert math.isnan(t_interval(x[:1]).low)
    with pytest.raises(InputError, match="no value"):
        t_interval(x[:0])


def test_prediction_interval_holds_the_next_value_as_often_as_it_says():
    draws = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bands = [prediction_interval(row[:5], 0.9) for row in draws]
    inside = sum(b.low <= float(row[5]) <= b.high for b, row in zip(bands, draws, strict=True)) / 4000
    # Three standard errors of a share of 0.9 over 4000 draws are 0.014.
    assert inside == pytest.approx(0.9, abs=0.014)


def test_bootstrap_counts_resample_each_example_once_on_average():
    counts = torch.cat(list(bootstrap_counts(30, 2000, torch.Generator().manual_seed(0))))
    assert counts.shape == (2000, 30)
    assert (counts.sum(1) == 30).all()
    # Each cell is binomial(30, 1/30): standard error of the mean over 2000 rows is 0.022.
    assert (counts.mean(0) - 1).abs().max() < 0.1


def test_bootstrap_mean_agrees_with_the_normal_interval():
    x = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = bootstrap_mean(x, torch.Generator().manual_seed(1), resamples=4000)
    half = 1.96 * x.std().item() / 20
    assert found.value == pytest.approx(x.mean().item())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.01)
    with pytest.raises(InputError, match="finite"):
        bootstrap_mean(torch.tensor([1.0, math.inf]), torch.Generator())


def test_paired_gap_is_antisymmetric_and_keeps_a_width_at_perfect_agreement():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(200, generator=g) < 0.8, torch.rand(200, generator=g) < 0.6
    there, back = paired_gap(a, b), paired_gap(b, a)
    assert there == pytest.approx((-back.value, -back.high, -back.low))
    assert there.value == pytest.approx(float(a.double().mean() - b.double().mean()))
    assert paired_gap(a, a).low < 0 < paired_gap(a, a).high


def test_paired_gap_covers_as_often_as_it_says():
    g = torch.Generator().manual_seed(3)
    inside = 0
    for _ in range(1000):
        common = torch.rand(80, generator=g) < 0.7
        a = common ^ (torch.rand(80, generator=g) < 0.1)
        b = common ^ (torch.rand(80, generator=g) < 0.1)
        gap = paired_gap(a, b)
        inside += gap.low <= 0 <= gap.high
    # Nominal 950; three standard errors are 21; the adjusted interval errs on the wide side.
    assert 929 <= inside <= 990


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(InputError, match="between 0 and 1"):
        wilson(1, 2, confidence)


def test_percentiles_hold_the_value_and_the_asked_share_of_the_draws():
    draws = torch.arange(101, dtype=torch.float64)
    assert percentiles(50.0, draws, 0.9) == pytest.approx((50, 5, 95))
    assert percentiles(50.0, draws, 0.5) == pytest.approx((50, 25, 75))
    assert percentiles(-3.0, draws, 0.9) == pytest.approx((-3, -3, 95))
    assert percentiles(200.0, draws, 0.9) == pytest.approx((200, 5, 200))


def test_a_paired_gap_is_of_the_same_examples_of_which_there_is_one():
    hits = torch.tensor([True, False, True])
    for ours, theirs in ((hits, hits[:2]), (hits[:0], hits[:0]), (hits[:0], hits)):
        sizes = rf"\({len(ours) or ''}.*\) and \({len(theirs) or ''}.*\) of them"
        with pytest.raises(InputError, match=f"A paired gap compares the same examples: got {sizes}"):
            paired_gap(ours, theirs)
