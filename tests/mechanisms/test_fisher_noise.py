"""Noise rule, information and the optimal quadratic scrub: closed forms (SFDN's sheet, checks 2, 3 and 5)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from efface.errors import InputError
from efface.mechanisms.fisher_noise import NoiseRule, add_noise, information, optimal_quadratic_scrub


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positive_definite(size: int, draw: torch.Generator) -> Tensor:
    m = torch.randn(size, size, generator=draw, dtype=torch.float64)
    return m @ m.T / size + 0.3 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("time", [0.1, 1.0, 3.0, float("inf")])
def test_2_scrub_equals_the_retrained_iterate_of_gradient_flow(time: float) -> None:
    draw = generator()
    a_hessian, b_hessian = positive_definite(5, draw), positive_definite(5, draw)
    a, b, start = torch.randn(3, 5, generator=draw, dtype=torch.float64)

    def flow(hessian: Tensor, minimum: Tensor) -> Tensor:
        if time == float("inf"):
            return minimum
        return minimum + torch.linalg.matrix_exp(-hessian * time) @ (start - minimum)

    w = flow(a_hessian, a)
    scrubbed = optimal_quadratic_scrub(w, a_hessian, b_hessian, a_hessian @ (w - a), b_hessian @ (w - b), time)
    torch.testing.assert_close(scrubbed, flow(b_hessian, b), rtol=1e-10, atol=1e-10)


def test_variances_by_hand() -> None:
    fisher = {
        "conv.weight": torch.tensor([[1.0, 0.0], [4.0, 4.0]], dtype=torch.float64),
        "bn.bias": torch.tensor([0.25, 1.0], dtype=torch.float64),
        "fc.weight": torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64),
    }
    found = NoiseRule(0.5, floor=0.0).variances(fisher, {"fc.weight"})
    assert found["conv.weight"].tolist() == [[250.25, 250.25], [0.125, 0.125]]  # 1/0 clamped to 1000, then averaged
    assert found["bn.bias"].tolist() == [20.0, 5.0]
    assert found["fc.weight"].tolist() == [[500.0, 500.0], [5.0, 5.0]]  # clamped to 100, times ten
    plain = NoiseRule(2.0, 0.5, 0.0, float("inf"), float("inf"), average=False, boost=1).variances(
        fisher, {"fc.weight"}
    )
    assert plain["bn.bias"].tolist() == [4.0, 2.0]
    assert plain["conv.weight"][1].tolist() == [1.0, 1.0]


def test_3_the_noise_has_the_variances_asked_for() -> None:
    """10 000 draws: the variance's relative deviation is √(2/10⁴) = 1.4 % per weight, 0.6 % for means of six."""
    model = nn.Linear(3, 2)
    rule = NoiseRule(1e-3)
    fisher = {"weight": torch.tensor([[1e-4, 0.1, 1.0]] * 2), "bias": torch.tensor([0.01, 10.0])}
    variances = rule.variances(fisher, {"weight", "bias"})
    draw, before = generator(), {n: p.detach().clone() for n, p in model.named_parameters()}
    squares = {n: torch.zeros_like(p) for n, p in before.items()}
    for _ in range(10_000):
        model.load_state_dict(before)
        add_noise(model, variances, draw)
        for n, p in model.named_parameters():
            squares[n] += (p.detach() - before[n]).square() / 10_000
    torch.testing.assert_close(squares["weight"].mean(1), variances["weight"].mean(1), rtol=0.03, atol=0)
    torch.testing.assert_close(squares["bias"], variances["bias"], rtol=0.05, atol=0)


def test_5_information_is_the_kl_of_torch() -> None:
    draw = generator(3)
    mean, other = ({"a": torch.randn(4, 3, generator=draw), "b": torch.randn(5, generator=draw)} for _ in range(2))
    v, w = ({n: torch.rand(m.shape, generator=draw) + 0.1 for n, m in mean.items()} for _ in range(2))
    expected = sum(
        float(kl_divergence(Normal(mean[n], v[n].sqrt()), Normal(other[n], w[n].sqrt())).sum()) for n in mean
    )
    assert information(mean, v, other, w) == pytest.approx(expected, rel=1e-5)
    assert information(mean, v, mean, v) == 0
    with pytest.raises(InputError, match="not positive"):
        information(mean, {n: torch.zeros_like(m) for n, m in mean.items()}, other, w)
