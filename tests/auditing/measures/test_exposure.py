"""Deviations of single records, against loops."""

import math

import numpy as np
import pytest
import torch

from efface.auditing.measures.exposure import NEAREST, PRIOR, deviations, deviations_beside_unseen, largest
from efface.errors import InputError


def test_the_variance_lies_between_the_records_own_and_the_shared_one():
    g = torch.Generator().manual_seed(0)
    retrained = torch.randn(6, 40, generator=g, dtype=torch.float64) * torch.linspace(0.1, 3, 40)
    candidate = torch.randn(40, generator=g, dtype=torch.float64)
    found, expected, _ = deviations(candidate, retrained)
    own = [np.var(retrained[:, i].numpy(), ddof=1) for i in range(40)]
    for i in range(40):
        variance = (PRIOR * np.mean(own) + 5 * own[i]) / (PRIOR + 5)
        by_hand = (float(candidate[i]) - float(retrained[:, i].mean())) / math.sqrt(variance * (1 + 1 / 6))
        assert float(found[i]) == pytest.approx(by_hand, abs=1e-9)
    torch.testing.assert_close(expected, retrained.mean(0))


def test_the_largest_keeps_its_sign():
    assert largest(torch.tensor([1.0, -4.0, 3.0])) == -4
    assert largest(torch.tensor([1.0, 4.0, -3.0])) == 4


def test_beside_unseen_records_by_hand():
    # All five unseen margins are neighbours: s = 3; the 3/4 quantile of sizes 1 to 5, each counted thrice, is 4.
    forget, unseen = torch.tensor([1.0, -8.0, 2.0]), torch.tensor([3.0, -1.0, 5.0, -4.0, 2.0])
    levels = torch.arange(5.0)
    found = deviations_beside_unseen(forget, torch.zeros(3), unseen, levels)
    torch.testing.assert_close(found, forget.double() / 4)
    torch.testing.assert_close(deviations_beside_unseen(-forget, torch.zeros(3), unseen, levels), -found)
    for bad in ((forget[:0], levels[:0], unseen, levels), (forget, levels[:3], unseen[:0], levels[:0])):
        with pytest.raises(InputError, match="there are none"):
            deviations_beside_unseen(*bad)
    with pytest.raises(InputError, match="same margins on unseen records"):
        deviations_beside_unseen(forget, levels[:3], torch.zeros(4), levels[:4])


def slow_beside_unseen(forget, expected, unseen, levels):
    """Loops over records; the window is the one in the order of margins whose middle is the record's place."""
    pairs = sorted(zip(levels.tolist(), unseen.abs().clamp_min(1e-3).tolist(), strict=True))
    near = min(NEAREST, len(pairs))

    def window(margin):
        below = sum(level < margin for level, _ in pairs)
        start = min(max(below - near // 2, 0), len(pairs) - near)
        return range(start, start + near)

    def spread(margin):
        return float(np.mean([pairs[j][1] for j in window(margin)]))

    pooled = sorted(pairs[j][1] / spread(pairs[j][0]) for x in expected.tolist() for j in window(x))
    q = pooled[math.ceil(len(pooled) * len(forget) / (len(forget) + 1)) - 1]
    return [d / (spread(x) * q) for d, x in zip(forget.tolist(), expected.tolist(), strict=True)]


def test_neighbours_are_those_of_like_expectation():
    g = torch.Generator().manual_seed(3)
    expected, levels = (torch.randn(n, generator=g, dtype=torch.float64) * 9 for n in (20, 500))
    forget, unseen = (torch.randn(len(x), generator=g, dtype=torch.float64) * x.abs() for x in (expected, levels))
    found = deviations_beside_unseen(forget, expected, unseen, levels)
    np.testing.assert_allclose(found, slow_beside_unseen(forget, expected, unseen, levels), rtol=1e-9)


def test_two_models_that_saw_neither_kind_come_out_near_one():
    # Models differ five times as much where they are wrong: on a tenth of the forget and half of the unseen margins.
    g = torch.Generator().manual_seed(1)

    def drawn(n, wrong):
        levels = torch.where(torch.rand(n, generator=g) < wrong, -20.0, 10.0) + torch.randn(n, generator=g)
        return torch.randn(n, generator=g) * torch.where(levels < 0, 5.0, 1.0), levels

    sizes = [float(deviations_beside_unseen(*drawn(91, 0.1), *drawn(2000, 0.5)).abs().max()) for _ in range(200)]
    # The median of a maximum of 91 normal sizes is near their 91/92 quantile; none is far above.
    assert 0.9 < float(np.median(sizes)) < 1.2
    assert max(sizes) < 2


def test_where_models_agree_to_the_last_bit_a_rounded_difference_does_not_stand_out():
    levels = torch.cat([torch.full((300,), 100.0), torch.linspace(-50, 50, 300)])
    unseen = torch.cat([torch.zeros(300), torch.ones(300)])
    found = deviations_beside_unseen(torch.tensor([1e-4]), torch.tensor([100.0]), unseen, levels)
    assert float(found) < 1


def test_beside_one_model_a_deviation_is_the_difference_of_clipped_margins():
    candidate, retrained = torch.tensor([3.0, -200.0, 1.0]), torch.tensor([[1.0, 50.0, 400.0]])
    found, expected, words = deviations(candidate, retrained)
    assert found.tolist() == [2.0, -150.0, -99.0]
    assert expected.tolist() == [1.0, 50.0, 100.0]
    assert words == "margin above the retrained model's"
    assert deviations(candidate, retrained.expand(3, 3))[2] == "standard deviations from the mean of 3 retrained models"
    for bad in (retrained[:0], retrained[0], retrained[:, :2]):
        with pytest.raises(InputError, match=r"models that never saw it: got \(.*\) margins for \(3,\) records"):
            deviations(candidate, bad)


def test_a_record_that_no_model_varies_on_still_has_a_spread():
    """Where all retrained margins are equal, s is 0.001."""
    found, _, _ = deviations(torch.tensor([2.0]), torch.ones(4, 1))
    assert float(found) == pytest.approx(1 / (0.001 * (1 + 1 / 4) ** 0.5))
