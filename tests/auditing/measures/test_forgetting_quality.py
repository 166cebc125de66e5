import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from efface.auditing.measures.forgetting_quality import epsilon, final_score, forgetting_quality
from efface.errors import InputError


def _margins(*shape, seed, mean=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def _threshold_epsilon(u, r, delta=0.01):
    """The published definition for one record, with a loop over thresholds."""
    best = 0.0
    for t in torch.cat([u, r]).tolist():
        fpr, fnr = float((r > t).double().mean()), float((u <= t).double().mean())
        if fpr == 0 and fnr == 0:
            return math.inf
        if fpr == 0 or fnr == 0:
            continue
        for a, b in ((fpr, fnr), (fnr, fpr)):
            if 1 - delta - a > 0:
                best = max(best, math.log(1 - delta - a) - math.log(b))
    return best


def test_no_less_than_every_single_threshold_and_equal_where_those_win():
    u, r = _margins(40, 60, seed=0, mean=0.7), _margins(40, 60, seed=1)
    slow = torch.tensor([_threshold_epsilon(u[:, i], r[:, i]) for i in range(60)], dtype=torch.float64)
    fast = epsilon(u, r)
    # The cross-validated regression is one attack more, so ours may be larger, never smaller.
    assert (fast >= slow - 1e-12).all()
    assert (fast - slow).abs().lt(1e-9).double().mean() > 0.8


@pytest.mark.parametrize(("n", "floor", "records"), [(16, 0.46, 3000), (64, 0.50, 3000), (128, 0.53, 2000)])
def test_identical_distributions_give_the_known_floor(n, floor, records):
    found = forgetting_quality(epsilon(_margins(n, records, seed=0), _margins(n, records, seed=1)))
    # Standard deviation of a record's score is about 0.3: three standard errors are 0.02, plus rounding of the floor.
    assert found == pytest.approx(floor, abs=0.025)


def test_perfect_separation_is_the_worst_score_on_either_side():
    u, r = _margins(20, 10, seed=0), _margins(20, 10, seed=1)
    assert epsilon(u + 50, r).isinf().all()
    assert forgetting_quality(epsilon(u + 50, r)) == 2 / 2**13
    # Over-unlearning is found too: by the regression, and by downward thresholds.
    assert forgetting_quality(epsilon(u - 50, r)) == 2 / 2**13
    assert epsilon(u - 50, r, two_sided=True).isinf().all()


def test_masked_classes_give_no_nan():
    assert epsilon(torch.full((8, 3), -torch.inf), _margins(8, 3, seed=0), two_sided=True).isinf().all()
    same = torch.full((8, 3), 2.0)
    assert epsilon(same, same).tolist() == [0, 0, 0]


def test_two_sided_thresholds_find_at_least_as_much():
    u, r = _margins(32, 100, seed=0, mean=-1), _margins(32, 100, seed=1)
    assert (epsilon(u, r, two_sided=True) >= epsilon(u, r)).all()
    assert epsilon(u, r, two_sided=True).mean() > epsilon(u, r).mean()


def test_score_by_bins():
    eps = torch.tensor([0.0, 0.49, 0.5, 1.0, 6.0, 99.0, math.inf])
    expected = sum([1, 1, 1 / 2, 1 / 4, 2 / 2**13, 2 / 2**13, 2 / 2**13]) / 7
    assert forgetting_quality(eps) == pytest.approx(expected)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="delta"):
        epsilon(torch.zeros(4, 1), torch.zeros(4, 1), delta=1)
    with pytest.raises(InputError, match="NaN"):
        forgetting_quality(torch.tensor([math.nan]))
    with pytest.raises(InputError, match="NaN"):
        epsilon(torch.full((4, 1), math.nan), torch.zeros(4, 1))


def test_every_record_is_judged_by_itself():
    u, r = _margins(9, 12, seed=0, mean=1.0) * torch.arange(1, 13), _margins(9, 12, seed=1)
    alone = torch.cat([epsilon(u[:, [j]], r[:, [j]]) for j in range(12)])
    torch.testing.assert_close(epsilon(u, r), alone, rtol=0, atol=1e-12)


def _regression_attack(u, r):
    """Shares of mistakes of scikit-learn's regression with five folds, for one record."""
    n, folds = len(u), min(5, len(u))
    fpr = fnr = 0.0
    for k in range(folds):
        inside, held = torch.arange(n) % folds != k, torch.arange(n) % folds == k
        x = torch.cat([u[inside], r[inside]])
        x, centre, scale = (x - x.mean()) / x.std(), x.mean(), x.std()
        y = [1] * int(inside.sum()) + [0] * int(inside.sum())
        model = LogisticRegression(C=1.0, tol=1e-10).fit(x[:, None].numpy(), y)
        of_r, of_u = (model.predict(((z[held] - centre) / scale)[:, None].numpy()) for z in (r, u))
        fpr, fnr = fpr + of_r.sum() / n, fnr + (1 - of_u).sum() / n
    return fpr, fnr


def _one_attack(fpr, fnr, delta):
    if fpr < 1e-9 or fnr < 1e-9:
        return math.inf if fpr < 1e-9 and fnr < 1e-9 else 0.0
    both = [math.log(1 - delta - a) - math.log(b) for a, b in ((fpr, fnr), (fnr, fpr)) if 1 - delta - a > 1e-9]
    return max([0.0, *both])


@pytest.mark.parametrize(("n", "shift"), [(12, -1.5), (12, 1.0), (7, -2.0), (4, -2.0), (2, -1.0)])
@pytest.mark.seconds
def test_epsilon_is_the_best_of_thresholds_and_a_cross_validated_regression(n, shift):
    """Against loops over thresholds and scikit-learn; skewed margins, so that slope and offset both matter."""
    g = torch.Generator().manual_seed(n)
    u = -torch.rand(n, 60, generator=g, dtype=torch.float64).log() * 2 + 3 + shift
    r = torch.rand(n, 60, generator=g, dtype=torch.float64).log() + 5
    slow = [
        max(_threshold_epsilon(a, b, 0.05), _one_attack(*_regression_attack(a, b), 0.05))
        for a, b in zip(u.T, r.T, strict=True)
    ]
    assert epsilon(u, r, delta=0.05).tolist() == pytest.approx(slow, abs=1e-9)


@pytest.mark.seconds
def test_equal_margins_are_on_one_side_of_every_threshold():
    g = torch.Generator().manual_seed(0)
    u, r = (torch.randint(0, 4, (15, 80), generator=g).double() + shift for shift in (1, 0))
    slow = [
        max(_threshold_epsilon(a, b), _one_attack(*_regression_attack(a, b), 0.01))
        for a, b in zip(u.T, r.T, strict=True)
    ]
    assert epsilon(u, r).tolist() == pytest.approx(slow, abs=1e-9)


def test_delta_may_be_zero_and_the_least_are_two_models_a_side():
    u, r = _margins(2, 5, seed=0), _margins(2, 5, seed=1)
    assert epsilon(u, r, delta=0).shape == (5,)
    with pytest.raises(InputError, match="too few"):
        epsilon(u[:1], r[:1])
    with pytest.raises(InputError, match="delta is 1"):
        epsilon(u, r, delta=1)
    assert forgetting_quality(torch.tensor([0.7])) == 0.5
    with pytest.raises(InputError, match=r"^F averages over records: give at least one, without NaN\.$"):
        forgetting_quality(torch.tensor([]))


def test_the_final_score_is_quality_times_both_ratios_of_accuracy():
    ratios = {"retain": 0.9, "retain_retrained": 1.0, "test": 0.88, "test_retrained": 0.8}
    assert final_score(0.5, **ratios) == pytest.approx(0.5 * 0.9 * 1.1)
    assert final_score(0.5, retain=1.0, retain_retrained=1.0, test=0.8, test_retrained=0.8) == 0.5
    with pytest.raises(InputError, match="both must be above 0"):
        final_score(0.5, **ratios | {"test_retrained": 0.0})
