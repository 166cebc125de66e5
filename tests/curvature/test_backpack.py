"""An independent implementation agrees: BackPACK's sums of squared gradients and exact GGN diagonal."""

import copy

import pytest
import torch
from torch import nn

from efface.curvature import fisher_diagonal
from tests.cases import case

backpack = pytest.importorskip("backpack", reason="backpack-for-pytorch is not installed")


def by_backpack(model, x, y, extension, attribute, reduction):
    model = backpack.extend(copy.deepcopy(model))
    loss = backpack.extend(nn.CrossEntropyLoss(reduction=reduction))(model(x), y)
    with backpack.backpack(extension):
        loss.backward()
    return {name: getattr(p, attribute) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["mlp", "conv1d"])
def test_empirical(name):
    from backpack.extensions import SumGradSquared

    c = case(name)
    expected = by_backpack(c.model, c.x, c.y, SumGradSquared(), "sum_grad_squared", "sum")
    found = fisher_diagonal(c.model, c.x, c.y).sum()
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-10, atol=1e-14)


def test_true_fisher_is_the_generalised_gauss_newton_diagonal():
    from backpack.extensions import DiagGGNExact

    c = case("mlp")
    expected = by_backpack(c.model, c.x, c.y, DiagGGNExact(), "diag_ggn_exact", "sum")
    found = fisher_diagonal(c.model, c.x, c.y, estimator="true").sum()
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-10, atol=1e-14)
