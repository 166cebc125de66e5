"""Bands hold one more value as often as they say, of skewed scores more often than Student's interval does."""

import math

import pytest
import torch
from scipy import stats

from efface.auditing.measures.bands import band, band_ends, pair_band
from efface.auditing.measures.intervals import prediction_interval
from efface.errors import InputError

CONFIDENCE = 1 - 0.05 / 12


def _missed(draws, n, ends):
    """Share of draws whose last value lies outside of the band of the first n."""
    low, high = ends(draws[:, :n])
    return float(((draws[:, n] < low - 1e-12) | (draws[:, n] > high + 1e-12)).double().mean())


def _student(values):
    n = values.shape[1]
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * values.std(1) * math.sqrt(1 + 1 / n)
    return values.mean(1) - half, values.mean(1) + half


def _draws(law, n, size=40_000):
    g = torch.Generator().manual_seed(n)
    shape = size, n + 1
    if law == "skewed":
        return -torch.rand(shape, generator=g, dtype=torch.float64).log()
    z = torch.randn(shape, generator=g, dtype=torch.float64)
    return torch.sigmoid(4 + 0.5 * z) if law == "share" else z


def test_values_that_lean_to_no_side_get_students_interval():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert tuple(band(values, 0.99)) == pytest.approx(tuple(prediction_interval(values, 0.99)))


def test_the_long_side_reaches_further_and_the_short_one_as_far_as_students():
    values = torch.tensor([0.0, 0.0, 0.0, 4.0])
    # Mean 1, deviation 2, skewness 2 at n = 4; t of 3 degrees at 90 % is 2.3534.
    t, reach = 2.3534, 2 * math.sqrt(1.25)
    assert tuple(band(values, 0.9)) == pytest.approx(
        (1, 1 - reach * t, 1 + reach * (t + 2 * (t * t - 1) / 6)), abs=1e-3
    )
    mirrored = band(-values, 0.9)
    assert (mirrored.low, mirrored.high) == pytest.approx((-band(values, 0.9).high, -band(values, 0.9).low))


@pytest.mark.parametrize("n", [4, 8, 16, 64])
def test_normal_scores_lie_outside_no_more_often_than_stated(n):
    # Nominal 0.42 %; three standard errors of 40,000 draws are 0.1 %.
    assert _missed(_draws("normal", n), n, lambda x: band_ends(x, CONFIDENCE)) < 0.0052


@pytest.mark.parametrize(("n", "most"), [(4, 0.013), (8, 0.0145), (16, 0.0115), (64, 0.0055)])
def test_skewed_scores_lie_outside_far_less_often_than_of_students_interval(n, most):
    draws = _draws("skewed", n)
    missed = _missed(draws, n, lambda x: band_ends(x, CONFIDENCE))
    assert missed < most
    assert missed < 0.7 * _missed(draws, n, _student)


def test_shares_near_one_are_judged_on_their_own_scale():
    draws = _draws("share", 8)

    def turned(x):
        return band_ends(x.sqrt().asin(), CONFIDENCE).clamp(0, math.pi / 2).sin() ** 2

    assert _missed(draws, 8, _student) > 0.012
    assert _missed(draws, 8, turned) < 0.0065
    low, high = turned(draws[:1, :8]).flatten().tolist()
    assert tuple(band(draws[0, :8], CONFIDENCE, scale="share"))[1:] == pytest.approx((low, high))


def test_no_model_lies_outside_of_a_band_that_it_gave():
    g = torch.Generator().manual_seed(0)
    for scale in ("linear", "share", "size"):
        for values in torch.rand(50, 20, generator=g, dtype=torch.float64) ** 8:
            found = band(values, 0.5, scale=scale)
            assert found.low <= float(values.min())
            assert float(values.max()) <= found.high
            assert scale != "share" or 0 <= found.low <= found.high <= 1


def test_sizes_are_a_band_around_zero_from_their_logarithms():
    found = band(torch.tensor([-1.0, math.e, -1.0, math.e]), 0.9, scale="size")
    half = stats.t.ppf(0.95, 3) * math.sqrt(1 / 3) * math.sqrt(1.25)
    assert tuple(found) == pytest.approx((0, -math.exp(0.5 + half), math.exp(0.5 + half)))


def test_a_spread_that_is_smaller_than_rounding_is_not_believed():
    same = torch.full((8,), 12.0)
    assert tuple(band(same, 0.9))[1:] == (12, 12)
    half = 12**-0.5 * stats.t.ppf(0.95, 7) * math.sqrt(1 + 1 / 8)
    assert tuple(band(same, 0.9, least=12**-0.5))[1:] == pytest.approx((12 - half, 12 + half))


@pytest.mark.parametrize("models", [4, 8])
def test_a_further_pair_lies_within_the_band_of_all_pairs(models):
    """A pair's score is made by both of its models, so that pairs are no independent values."""
    g = torch.Generator().manual_seed(models)
    a = torch.randn(20_000, models + 1, generator=g, dtype=torch.float64)
    first, second = torch.triu_indices(models, models, 1)
    pairs = a[:, first] + a[:, second]
    further = a[:, -1:] + a[:, :1]
    draws = torch.cat([pairs, further], 1)
    n = len(first)
    naive = _missed(draws, n, lambda x: band_ends(x, 0.95))
    assert naive > 0.08
    assert _missed(draws, n, lambda x: band_ends(x, 0.95, models=models)) < 0.055
    low, high = band_ends(pairs[0], 0.95, models=models).tolist()
    assert tuple(pair_band(pairs[0], 0.95)) == pytest.approx((float(pairs[0].mean()), low, high))


def test_one_value_has_no_spread_and_none_is_refused():
    found = band(torch.tensor([0.3]), 0.9)
    assert found.value == pytest.approx(0.3)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    with pytest.raises(InputError, match="no value"):
        band(torch.empty(0), 0.9)
    with pytest.raises(InputError, match="have no band"):
        band_ends(torch.zeros(3), 95)


def test_pairs_of_signed_sizes_have_a_band_around_zero():
    """As single scores have, from the logarithms of the sizes; six pairs are of four models."""
    sizes = torch.tensor([1.0, -2.0, 4.0, 1.0, -2.0, 4.0])
    found = pair_band(sizes, 0.95, scale="size")
    logs = sizes.abs().double().log()
    high = math.exp(float(band_ends(logs, 0.95, models=4, skewed=False)[1]))
    assert tuple(found) == pytest.approx((0.0, -high, high))
    wider = pair_band(sizes, 0.95, scale="size", least=5.0)
    assert wider.high > found.high


def test_pairs_of_shares_are_judged_on_the_scale_of_shares_by_their_models():
    """Where the arcsine of the root is 0.6, 0.7 and 0.8: three pairs of three models, which lean to no side."""
    turned = torch.tensor([0.6, 0.7, 0.8], dtype=torch.float64)
    half = stats.t.ppf(0.95, 2) * 0.1 * math.sqrt(2) * math.sqrt(1 + 2 / 3)
    found = pair_band(turned.sin() ** 2, 0.9, scale="share")
    mean = float((turned.sin() ** 2).mean())
    assert tuple(found) == pytest.approx((mean, math.sin(0.7 - half) ** 2, math.sin(0.7 + half) ** 2))
    assert 0 < half < 0.7
