import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from efface.auditing.measures.kept_mass import entropy, kept_log_probabilities, mass_divergence
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


def test_refusals():
    with pytest.raises(InputError, match="1 kept classes"):
        kept_log_probabilities(_answers(3, 2), [1])
    with pytest.raises(InputError, match=r"got \(0, 3, 2\)"):
        mass_divergence(_answers(3, 2), torch.empty(0, 3, 2))
