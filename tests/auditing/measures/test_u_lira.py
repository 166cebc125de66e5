import math

import numpy as np
import pytest
import torch
from scipy import stats
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


def _by_loop(u, r, folds, shared_below=64):
    """U-LiRA model by model and record by record, with scipy's densities."""
    n, records = u.shape
    log = {"u": np.empty((n, records)), "r": np.empty((n, records))}
    for k in range(folds):
        inside = [i for i in range(n) if i % folds != k]
        fits = []
        for side in (u, r):
            mean, sigma = side[inside].mean(0).numpy(), side[inside].std(0).numpy()
            if len(inside) < shared_below:
                sigma = np.full(records, math.sqrt(float(np.mean(sigma**2))))
            fits.append(norm(mean, sigma))
        for name, side in (("u", u), ("r", r)):
            for i in range(k, n, folds):
                log[name][i] = fits[0].logpdf(side[i].numpy()) - fits[1].logpdf(side[i].numpy())
    accuracies, areas = [], []
    for k in range(folds):
        hits, alarms = log["u"][k::folds], log["r"][k::folds]
        accuracies.append(((hits > 0).mean() + (alarms <= 0).mean()) / 2)
        areas.append(np.mean(hits.ravel()[:, None] > alarms.ravel()[None]))
    record = ((log["u"] > 0).mean(0) + (log["r"] <= 0).mean(0)) / 2
    return accuracies, areas, record, log


@pytest.mark.parametrize(
    ("n", "folds", "used"), [(3, 8, 3), (3, 2, 3), (4, 8, 4), (9, 8, 8), (20, 8, 8), (9, 2, 2), (4, 3, 3)]
)
def test_equals_a_loop_over_folds_models_and_records(n, folds, used):
    u, r = _margins(n, 7, seed=n, mean=1) * torch.linspace(0.5, 3, 7), _margins(n, 7, seed=n + 100)
    found = u_lira(u, r, folds=folds, confidence=0.8)
    accuracies, areas, record, log = _by_loop(u, r, used)
    assert found.models == n
    assert found.per_record.tolist() == pytest.approx(record)
    for interval, values in ((found.accuracy, accuracies), (found.auc, areas)):
        # areas are kept in float32
        half = stats.t.ppf(0.9, used - 1) * np.std(values, ddof=1) / math.sqrt(used)
        assert interval == pytest.approx((np.mean(values), np.mean(values) - half, np.mean(values) + half), abs=1e-6)
    assert found.least_fpr == 1 / (7 * n)
    rate = 1 / (7 * n)
    cut = np.sort(log["r"].ravel())[-2]
    asked = u_lira(u, r, folds=folds, fprs=(rate, rate / 2))
    assert asked.tpr[rate / 2] is None
    # One false alarm is allowed: the threshold is the second largest score of a retrained model.
    assert asked.tpr[rate] == pytest.approx((log["u"] > cut).mean())


def test_eight_folds_95_percent_and_shared_variances_below_64_models_unless_told():
    u, r = _margins(66, 3, seed=0, mean=1) * torch.tensor([0.3, 1, 3]), _margins(66, 3, seed=1)
    told = u_lira(u, r, folds=8, confidence=0.95, shared_below=64)
    assert u_lira(u, r).accuracy == told.accuracy
    assert u_lira(u, r).auc == told.auc
    assert u_lira(u, r, shared_below=0).auc != told.auc
    t = _margins(2, 3, seed=2)
    for n, shared in ((63, True), (64, False)):
        slow = torch.zeros(2, 3, dtype=torch.float64)
        for sign, side in ((1, u[:n]), (-1, r[:n])):
            sigma = side.var(0).mean().sqrt().expand(3) if shared else side.std(0)
            slow += sign * torch.from_numpy(norm.logpdf(t, side.mean(0), sigma))
        torch.testing.assert_close(log_likelihood_ratio(t, u[:n], r[:n]), slow)


def test_margins_are_clipped_and_sigma_has_a_floor():
    far = torch.full((5, 2), torch.inf)
    for sign in (1, -1):
        at_the_clip = torch.full_like(far, sign * 100)
        assert torch.equal(log_likelihood_ratio(sign * far, far, -far), log_likelihood_ratio(at_the_clip, far, -far))
    # Both sides agree to the last digit, at 0 and 1: sigma is 0.1, so a margin of 0 speaks by 1 / (2 * 0.01).
    zeros = torch.zeros(4, 1)
    found = log_likelihood_ratio(torch.zeros(1, 1), zeros, zeros + 1, sigma_floor=0.1)
    assert float(found) == pytest.approx(50)
    assert float(log_likelihood_ratio(torch.zeros(1, 1), zeros, zeros + 0.01)) == pytest.approx(50, rel=1e-4)


def test_no_preference_counts_as_retrained():
    same = torch.full((6, 3), 2.0)
    found = u_lira(same, same)
    assert found.accuracy.value == 0.5
    assert found.per_record.tolist() == [0.5, 0.5, 0.5]
    assert u_lira(same, same, folds=2).accuracy.value == 0.5


def test_roles_come_from_the_generator_and_three_models_are_enough():
    first, again = (thirds(6, 40, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, thirds(6, 40, torch.Generator().manual_seed(4)))
    assert first.dtype == torch.int8
    assert thirds(3, 5, torch.Generator()).sort(0).values.tolist() == [[0] * 5, [1] * 5, [2] * 5]
    for models in (0, 2, 4):
        with pytest.raises(InputError, match=f"^{models} shadow models"):
            thirds(models, 5, torch.Generator())


def test_as_many_models_of_a_role_as_are_asked_for():
    roles = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 1]])
    margins = torch.arange(8.0).reshape(4, 2)
    assert by_role(margins, roles, Role.OUT).tolist() == [[2, 1], [4, 3]]
    assert by_role(margins, roles, Role.OUT, 1).tolist() == [[2, 1]]
    assert by_role(margins[:, :1], roles[:, :1], Role.IN, 2).tolist() == [[0], [6]]
    for models in (0, 3):
        with pytest.raises(InputError, match=f"OUT in only 2 of 4 shadow models, and {models} are asked for"):
            by_role(margins, roles, Role.OUT, models)
    for a, b in ((margins, roles[:3]), (margins[:, 0], roles[:, 0]), (margins[:, :0], roles[:, :0])):
        with pytest.raises(InputError, match="must have the same shape"):
            by_role(a, b, Role.OUT)
    with pytest.raises(InputError, match=r"Margins \(4, 2\) and roles \(3, 2\)"):
        by_role(margins, roles[:3], Role.OUT)
