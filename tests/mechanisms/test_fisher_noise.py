"""The noise rule: variances by hand, and the noise that is drawn by them (SFDN's sheet, check 3)."""

from __future__ import annotations

import torch
from torch import nn

from efface.mechanisms.fisher_noise import NoiseRule, add_noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
