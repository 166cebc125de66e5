import pytest
import torch
from scipy import stats

from efface.auditing.measures.canaries import canary_scores, canary_statistic, fresh_band, most_by_chance
from efface.auditing.measures.roc import auc
from efface.errors import InputError


def _normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand():
    gradients, noise = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[5.0, 10.0], [1.0, 1.0]])
    assert canary_scores(gradients, noise, 0.5).tolist() == pytest.approx([(3 * 5 + 4 * 10) / 5 / 0.5, 0])


def test_noise_that_the_model_never_saw_is_standard_normal_whatever_the_gradients():
    gradients = _normal(4000, 1, 5, 5).exp()  # far from normal
    found = canary_scores(gradients, 0.3 * _normal(4000, 1, 5, 5, seed=1), 0.3)
    assert stats.kstest(found.numpy(), "norm").pvalue > 0.01


def test_statistic_is_standard_normal_when_gone_and_negative_when_kept():
    gradients, fresh = _normal(50, 20), 2 * _normal(300, 50, 20, seed=1)
    gone = torch.tensor([canary_statistic(gradients, 2 * _normal(50, 20, seed=s), 2, fresh) for s in range(2, 102)])
    assert stats.kstest(gone.numpy(), "norm").pvalue > 0.01
    noise = 2 * _normal(50, 20, seed=2)
    # The loss falls towards x + xi: its gradient leans against xi.
    assert canary_statistic(gradients - noise, noise, 2, fresh) < -5


def test_a_biased_null_is_calibrated_away():
    gradients, fresh = _normal(10, 8), _normal(500, 10, 8, seed=1) + 1
    shifted = _normal(10, 8, seed=2) + 1
    assert abs(canary_statistic(gradients.abs(), shifted, 1, fresh)) < 4
    assert canary_scores(gradients.abs(), shifted, 1).sum() / 10**0.5 > 4


def test_refusals():
    with pytest.raises(InputError, match="its own noise"):
        canary_scores(torch.ones(2, 3), torch.ones(2, 2), 1)
    with pytest.raises(InputError, match="epsilon 0"):
        canary_scores(torch.ones(2, 3), torch.ones(2, 3), 0)
    with pytest.raises(InputError, match="two fresh draws"):
        canary_statistic(torch.ones(2, 3), torch.ones(2, 3), 1, torch.ones(1, 2, 3))


def test_the_band_of_fresh_canaries_holds_for_models_that_never_saw_any():
    """2,000 ignorant models: margins of planted and fresh canaries from one distribution, nine labels a record."""
    # Labels of one record share most of their margin, as those of a record that is hard to tell do.
    fresh = (0.9 * _normal(2000, 50, 1) + 0.436 * _normal(2000, 50, 9, seed=1)).flatten(1)
    areas = (_normal(2000, 10, 1, seed=2) > fresh[:, None]).double().mean((1, 2))
    assert float(areas[0]) == pytest.approx(auc(_normal(2000, 10, 1, seed=2)[0], fresh[0]))
    band = fresh_band(10, 50, 0.95)
    missed = int(((areas < band.low) | (areas > band.high)).sum())
    assert missed <= stats.binom.ppf(0.999, 2000, 0.05)
    assert missed >= stats.binom.ppf(0.001, 2000, 0.03)  # and it is not so wide that it sees nothing


def test_the_band_narrows_with_canaries_and_stays_within_zero_and_one():
    assert fresh_band(2, 1000, 0.999)[1:] == (0.0, 1.0)
    widths = [fresh_band(n, 1000, 0.99).high for n in (5, 10, 20, 100)]
    assert widths == sorted(widths, reverse=True)
    for few in ((0, 10), (10, 0)):
        with pytest.raises(InputError, match=f"^{few[0]} planted canaries .* {few[1]} fresh ones; needed: one of each"):
            fresh_band(*few, 0.95)
    half = 0.6745 * (2 / 12) ** 0.5  # of one of each, half of all models lie within the quartiles
    assert tuple(fresh_band(1, 1, 0.5)) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-4)


@pytest.mark.parametrize(("n", "fpr"), [(10, 0.01), (10, 0.001), (100, 0.01)])
def test_chance_seldom_puts_more_canaries_above_the_fresh_ones(n, fpr):
    most = round(most_by_chance(n, fpr, 0.99) * n)
    assert stats.binom.sf(most, n, fpr) <= 0.01 < stats.binom.sf(most - 1, n, fpr) or most == 0


def test_two_fresh_draws_calibrate_by_hand():
    """The direction (1, 0) gives 3 beside fresh sums of 1 and 3: their mean is 2, their deviation the root of 2."""
    gradients, noise = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 5.0]])
    fresh = [torch.tensor([[1.0, 9.0]]), torch.tensor([[3.0, -9.0]])]
    assert canary_statistic(gradients, noise, 1.0, fresh) == pytest.approx((3 - 2) / 2**0.5)
