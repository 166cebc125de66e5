import math

import pytest
import torch

from efface.auditing.measures.rmia import log_ratio
from efface.auditing.measures.roc import auc
from efface.errors import InputError


def _margins(*shape, seed, mean=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def test_equals_the_definition_in_a_loop():
    target, refs = _margins(12, seed=0, mean=1), _margins(3, 12, seed=1)
    z_target, z_refs = _margins(9, seed=2), _margins(3, 9, seed=3)

    def ratio(m, r):
        pr = ((1 + 0.3) * sum(1 / (1 + math.exp(-x)) for x in r) / len(r) + (1 - 0.3)) / 2
        return (1 / (1 + math.exp(-m))) / pr

    for gamma in (1.0, 1.3):
        slow = [
            sum(
                ratio(float(m), r.tolist()) / ratio(float(z), s.tolist()) > gamma
                for z, s in zip(z_target, z_refs.T, strict=True)
            )
            / 9
            for m, r in zip(target, refs.T, strict=True)
        ]
        beyond = log_ratio(target, refs)[:, None] - log_ratio(z_target, z_refs)[None] > math.log(gamma)
        assert beyond.double().mean(1).tolist() == pytest.approx(slow)


def test_far_margins_stay_finite_in_the_ratio():
    # p underflows to 0 at a margin of -800; its logarithm does not.
    assert float(log_ratio(torch.tensor([-800.0]), torch.zeros(1, 1))) == pytest.approx(
        -800 - math.log(0.675), rel=1e-9
    )


def test_a_model_like_its_references_gives_one_half():
    found = []
    for seed in range(60):
        difficulty = _margins(200, seed=10 * seed)
        target = difficulty + _margins(200, seed=10 * seed + 1)
        refs = difficulty + _margins(4, 200, seed=10 * seed + 2)
        ratios = log_ratio(target, refs)
        found.append(auc(ratios[:100], ratios[100:]))
    # Standard error of one AUC with 100 on each side is 0.041, of the mean of 60 0.0053: three of them.
    assert sum(found) / 60 == pytest.approx(0.5, abs=0.016)


def test_remembered_records_stand_out_although_their_margins_do_not():
    # Forget records are hard (references fail on them), unseen ones easy; the target knows both equally well.
    target = _margins(400, seed=0, mean=2)
    refs = torch.cat([_margins(2, 200, seed=1, mean=-3), _margins(2, 200, seed=2, mean=2)], 1)
    ratios = log_ratio(target, refs)
    assert auc(target[:200], target[200:]) == pytest.approx(0.5, abs=0.1)
    assert auc(ratios[:200], ratios[200:]) > 0.95


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="models, examples"):
        log_ratio(torch.zeros(3), torch.zeros(0, 3))
    with pytest.raises(InputError, match="offset"):
        log_ratio(torch.zeros(3), torch.zeros(1, 3), a=2)


def test_the_ratio_by_hand_at_both_ends_of_the_offset():
    target, references = torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 1.0], [2.0, -1.0]])

    def p(m):
        return 1 / (1 + math.exp(-m))

    out = [(p(0) + p(2)) / 2, (p(1) + p(-1)) / 2]
    for a in (0, 0.3, 1):
        expected = [math.log(p(m) / (((1 + a) * o + 1 - a) / 2)) for m, o in zip((0, 2), out, strict=True)]
        assert log_ratio(target, references, a=a).tolist() == pytest.approx(expected)
    assert log_ratio(target, references).tolist() == log_ratio(target, references, a=0.3).tolist()
    for a in (-0.1, 1.1):
        with pytest.raises(InputError, match=f"a is {a}"):
            log_ratio(target, references, a=a)
    with pytest.raises(InputError, match="models, examples"):
        log_ratio(target, references[0])
    with pytest.raises(InputError, match="models, examples"):
        log_ratio(target, references[:, :1])
