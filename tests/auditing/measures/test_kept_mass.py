import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from efface.auditing.measures.kept_mass import entropy, kept_lean, kept_log_probabilities, mass_divergence
from efface.errors import InputError


def _answers(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_forgotten_logit_does_not_matter():
    z = _answers(5, 4)
    other = z.clone()
    other[:, 2] -= 1e4
    assert torch.equal(kept_log_probabilities(z, [2]), kept_log_probabilities(other, [2]))
    assert kept_log_probabilities(z, [2]).exp().sum(1).tolist() == pytest.approx([1] * 5)


def test_divergence_equals_scipys_record_by_record():
    p = kept_log_probabilities(_answers(6, 5), [0])
    q = kept_log_probabilities(_answers(3, 6, 5, seed=1), [0])
    mean = q.exp().mean(0)
    expected = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(p.exp().numpy(), mean.numpy(), strict=True)]
    assert mass_divergence(p, q).tolist() == pytest.approx(expected)


def test_divergence_is_zero_for_equal_and_one_for_disjoint_answers():
    certain = torch.tensor([[0.0, -math.inf]])
    assert mass_divergence(certain, certain[None]).tolist() == [0]
    assert mass_divergence(certain, certain.flip(1)[None]).tolist() == pytest.approx([1])


def test_divergence_is_to_the_mean_of_the_references_not_the_mean_of_divergences():
    even = torch.full((1, 2), math.log(0.5))
    apart = torch.tensor([[[0.0, -math.inf]], [[-math.inf, 0.0]]])
    assert mass_divergence(even, apart).tolist() == pytest.approx([0])


def test_entropy_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert entropy(p.log()).tolist() == pytest.approx([1.5 * math.log(2), 0])


def test_lean_is_one_at_the_original_zero_at_the_references_and_linear_between():
    """Centred logarithms are logits up to a shift: a mixture of logits lies that far on the way."""
    z, o = _answers(7, 4).double() / 3, _answers(7, 4, seed=1).double() / 3
    p, q = z.log_softmax(1), o.log_softmax(1)
    for t in (-0.2, 0.0, 0.3, 1.0):
        assert kept_lean(((1 - t) * z + t * o).log_softmax(1), p[None], q) == pytest.approx(t)
    # What changes across the way leaves it as it is.
    way = (o - o.mean(1, keepdim=True)) - (z - z.mean(1, keepdim=True))
    aside = _answers(7, 4, seed=2).double() / 3
    aside = aside - aside.mean(1, keepdim=True)
    aside -= way * (aside * way).sum() / way.square().sum()
    assert kept_lean((z + 0.1 * aside).log_softmax(1), p[None], q) == pytest.approx(0, abs=1e-12)


def test_lean_does_not_look_at_the_far_tail():
    p, q, o = (torch.tensor([row]).log() for row in ([0.5, 0.5, 1e-9], [0.5, 0.5, 1e-5], [0.9, 0.1, 1e-7]))
    assert kept_lean(p, q[None], o) == pytest.approx(0)


def test_lean_refuses_an_original_that_answers_as_the_references():
    p = kept_log_probabilities(_answers(3, 4), [])
    with pytest.raises(InputError, match="answers as the retrained models do"):
        kept_lean(p, p[None], p)
    with pytest.raises(InputError, match="the original's log-probabilities"):
        kept_lean(p, p[None], p[:2])


def test_refusals():
    with pytest.raises(InputError, match="1 kept classes"):
        kept_log_probabilities(_answers(3, 2), [1])
    with pytest.raises(InputError, match=r"got \(0, 3, 2\)"):
        mass_divergence(_answers(3, 2), torch.empty(0, 3, 2))
