import math

import pytest
import torch
from scipy.stats import norm

from efface.auditing.measures.u_lira import Role, by_role, log_likelihood_ratio, thirds, u_lira
from efface.errors import InputError


def _margins(*shape, seed, mean=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


@pytest.mark.parametrize("shared_below", [0, 64])
@pytest.mark.parametrize("n", [16, 64])
def test_identical_distributions_give_one_half_on_held_out_models(n, shared_below):
    found = u_lira(_margins(n, 4000, seed=0), _margins(n, 4000, seed=1), shared_below=shared_below)
    # 2 n x 4000 judgements: standard error below 0.0015 if they were independent; folds share fits, so thrice that.
    assert found.accuracy.value == pytest.approx(0.5, abs=0.006)
    assert found.auc.value == pytest.approx(0.5, abs=0.006)
    assert found.tpr[0.01] == pytest.approx(0.01, abs=0.004)


def test_in_sample_scoring_is_optimistic_and_ours_is_not():
    """Fitted and scored on the same models, two identical distributions give .58 for 16 models a side."""
    u, r = _margins(16, 4000, seed=0), _margins(16, 4000, seed=1)
    hit = (log_likelihood_ratio(u, u, r, shared_below=0) > 0).double().mean()
    alarm = (log_likelihood_ratio(r, u, r, shared_below=0) > 0).double().mean()
    assert float(hit + 1 - alarm) / 2 == pytest.approx(0.58, abs=0.01)
    assert abs(u_lira(u, r, shared_below=0).accuracy.value - 0.5) < 0.01


def test_separated_gaussians_give_the_analytic_values():
    found = u_lira(_margins(128, 500, seed=0, mean=2), _margins(128, 500, seed=1))
    # Shift 2, sigma 1: the best threshold is right with probability Phi(1); fits from 112 models cost under 0.01.
    assert found.accuracy.value == pytest.approx(norm.cdf(1), abs=0.01)
    assert found.auc.value == pytest.approx(norm.cdf(math.sqrt(2)), abs=0.01)
    assert found.per_record.shape == (500,)


def test_margins_carry_more_than_correctness():
    """Public code uses 0/1 correctness: records right under both kinds of models would look forgotten."""
    u, r = _margins(32, 200, seed=0, mean=9), _margins(32, 200, seed=1, mean=5)
    assert bool((u > 0).all() & (r > 0).all())
    assert u_lira(u, r).accuracy.value > 0.9


@pytest.mark.parametrize("shared_below", [0, 64])
def test_models_that_agree_to_the_last_digit_give_no_nan(shared_below):
    same = torch.full((8, 5), 3.0)
    found = u_lira(same, same, shared_below=shared_below)
    assert found.auc.value == 0.5
    apart = u_lira(same, same - 1, shared_below=shared_below)
    assert apart.accuracy.value == 1
    masked = u_lira(torch.full((8, 5), -torch.inf), same, shared_below=shared_below)
    assert masked.accuracy.value == 1


def test_likelihood_ratio_equals_scipys():
    t, u, r = _margins(3, 4, seed=0), _margins(70, 4, seed=1, mean=1), _margins(70, 4, seed=2)
    slow = norm.logpdf(t, u.mean(0), u.std(0)) - norm.logpdf(t, r.mean(0), r.std(0))
    torch.testing.assert_close(log_likelihood_ratio(t, u, r), torch.from_numpy(slow))


def test_thirds_give_every_record_each_role_in_a_third_of_the_models():
    roles = thirds(90, 200, torch.Generator().manual_seed(0))
    for role in Role:
        assert ((roles == role).sum(0) == 30).all()
    # Roles of two records are independent: they agree in a third of the models on average.
    same = (roles[:, :100] == roles[:, 100:]).double().mean()
    assert float(same) == pytest.approx(1 / 3, abs=0.02)
    with pytest.raises(InputError, match="multiple of 3"):
        thirds(10, 5, torch.Generator())


def test_gathering_by_role_finds_the_planted_margins():
    roles = thirds(12, 50, torch.Generator().manual_seed(1))
    margins = roles.double() * 10 + torch.arange(50)
    for role in Role:
        assert torch.equal(by_role(margins, roles, role), (role * 10 + torch.arange(50.0)).expand(4, 50).double())
    marked = torch.arange(12.0).unsqueeze(1).expand(12, 50)
    assert (by_role(marked, roles, Role.OUT).diff(dim=0) > 0).all()
    with pytest.raises(InputError, match="in only 0 of 12"):
        by_role(margins, torch.zeros_like(roles).index_fill(1, torch.tensor([0]), 1), Role.IN)
    # Stopped early: every record still gets as many models of each role, the first ones.
    left = marked[:9], roles[:9]
    least = int((left[1] == Role.OUT).sum(0).min())
    found = by_role(*left, Role.OUT)
    assert found.shape == (least, 50)
    assert torch.equal(found, by_role(marked, roles, Role.OUT)[:least])


def test_thirds_design_end_to_end_null_and_planted():
    roles = thirds(90, 400, torch.Generator().manual_seed(2))
    margins = _margins(90, 400, seed=3)
    null = u_lira(by_role(margins, roles, Role.UNLEARNED), by_role(margins, roles, Role.OUT))
    assert null.accuracy.value == pytest.approx(0.5, abs=0.015)
    margins[roles == Role.UNLEARNED] += 1
    found = u_lira(by_role(margins, roles, Role.UNLEARNED), by_role(margins, roles, Role.OUT))
    assert found.accuracy.value == pytest.approx(norm.cdf(0.5), abs=0.02)


def test_too_few_or_unequal_ensembles_are_refused():
    with pytest.raises(InputError, match="at least 3 models"):
        u_lira(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(InputError, match="same size"):
        u_lira(torch.zeros(4, 4), torch.zeros(5, 4))
    with pytest.raises(InputError, match="at least 2"):
        u_lira(torch.zeros(4, 4), torch.zeros(4, 4), folds=1)
