import math

import pytest
import torch

from efface.auditing.measures.zrf import zero_retrain_forgetting
from efface.errors import InputError


def test_zrf_is_a_divergence_of_answers_not_a_cosine_of_logits():
    """Two models that always answer uniformly agree wholly; a cosine of their logits gives .51."""
    uniform = [torch.ones(10, 5) * torch.randn(10, 1, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    assert zero_retrain_forgetting(*uniform) == pytest.approx(1)
    certain = torch.full((10, 5), -1e4)
    certain[:, 0] = 0
    # JS between certainty and the uniform answer over 5 classes, in bits, by hand.
    m = (1 + 0.2) / 2
    bits = (math.log2(1 / m) + 0.2 * math.log2(0.2 / m) + 0.8 * math.log2(0.2 / 0.1)) / 2
    assert zero_retrain_forgetting(certain, uniform[0]) == pytest.approx(1 - bits)


def test_zrf_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"^ZRF over no example is not defined; give at least one forget example\.$"):
        zero_retrain_forgetting(torch.zeros(0, 3), torch.zeros(0, 3))
