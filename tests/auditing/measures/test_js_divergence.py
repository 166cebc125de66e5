import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from efface.auditing.measures.js_divergence import js_divergence
from efface.errors import InputError


def _logits(n, k, seed):
    return 3 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_js_equals_scipys_row_by_row():
    p, q = _logits(40, 6, 0), _logits(40, 6, 1)
    slow = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(p.softmax(1).numpy(), q.softmax(1).numpy(), strict=True)]
    torch.testing.assert_close(js_divergence(p, q), torch.tensor(slow), rtol=1e-9, atol=1e-12)


def test_js_is_zero_for_equal_and_one_for_disjoint_answers_without_nan():
    one_hot = torch.tensor([[0.0, -torch.inf, -torch.inf], [0.0, -torch.inf, -torch.inf]])
    other = torch.tensor([[0.0, -torch.inf, -torch.inf], [-torch.inf, 0.0, 0.0]])
    torch.testing.assert_close(js_divergence(one_hot, other), torch.tensor([0.0, 1.0], dtype=torch.float64))
    large = torch.tensor([[1e4, 0.0]])
    torch.testing.assert_close(js_divergence(large, -large), torch.tensor([1.0], dtype=torch.float64))


def test_js_is_symmetric_and_ignores_shifts():
    p, q = _logits(20, 4, 2), _logits(20, 4, 3)
    torch.testing.assert_close(js_divergence(p, q), js_divergence(q, p))
    torch.testing.assert_close(js_divergence(p + 7, q), js_divergence(p, q))


def test_js_sums_over_classes():
    """Public code averages KL over classes too: with 100 classes .026 nats come out where .602 are meant."""
    p, q = _logits(200, 100, 4), _logits(200, 100, 5)
    a, b = p.log_softmax(1), q.log_softmax(1)
    m = torch.log((a.exp() + b.exp()) / 2)
    nats = (((a.exp() * (a - m)).sum(1) + (b.exp() * (b - m)).sum(1)) / 2).mean()
    assert nats > 0.3
    assert float(js_divergence(p, q).mean()) * math.log(2) == pytest.approx(float(nats), rel=1e-9)
    # Padding with impossible classes must not dilute it, as a mean over classes would.
    wide = [torch.cat([x, torch.full((200, 300), -torch.inf)], 1) for x in (p, q)]
    torch.testing.assert_close(js_divergence(*wide), js_divergence(p, q))


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="same examples"):
        js_divergence(torch.zeros(2, 3), torch.zeros(3, 3))
