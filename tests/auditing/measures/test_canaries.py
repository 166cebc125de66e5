import pytest
import torch
from scipy import stats

from efface.auditing.measures.canaries import canary_scores, canary_statistic
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
    gradients, fresh = _normal(50, 20), 2 * _normal(2000, 50, 20, seed=1)
    gone = torch.tensor([canary_statistic(gradients, 2 * _normal(50, 20, seed=s), 2, fresh) for s in range(2, 302)])
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
