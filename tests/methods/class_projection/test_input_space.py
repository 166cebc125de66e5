"""Input directions and projections: closed forms (section G of the recent methods' sheet)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.methods.class_projection.input_space import Directions, input_directions, project, projection
from efface.running.seeding import seeded


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of(x: Tensor) -> Directions:
    """Directions of columns X (d, n), by the thin SVD of the paper."""
    u, s, _ = torch.linalg.svd(x, full_matrices=True)
    energy = torch.zeros(len(x), dtype=x.dtype)
    energy[: len(s)] = s.square() / s.square().sum()
    return Directions(u.unsqueeze(0), energy.unsqueeze(0))


def test_directions_are_those_of_the_svd() -> None:
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        )
    model.eval()
    x = torch.randn(6, 2, 4, 4, generator=generator())
    found = input_directions(model, [(x[:4], x[:4, 0, 0, 0]), (x[4:], x[4:, 0, 0, 0])], 10_000, 6, generator())
    assert list(found) == ["0", "3"]
    for group in range(2):
        patches = F.unfold(x[:, group : group + 1].double(), 3, padding=1, stride=2).permute(1, 0, 2).flatten(1)
        expected = of(patches).importance(7.0)[0]
        torch.testing.assert_close(found["0"].importance(7.0)[group], expected, rtol=0, atol=1e-6)
    features = model[:3](x).detach().double().T
    torch.testing.assert_close(found["3"].importance(7.0), of(features).importance(7.0), rtol=0, atol=1e-6)


def test_columns_limit_the_positions() -> None:
    """One position per sample leaves a Gram matrix of rank n."""
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    x = torch.randn(5, 1, 8, 8, generator=generator())
    few = input_directions(model, [(x, x[:, 0, 0, 0])], 5, 5, generator())["0"]
    assert int((few.shares > 1e-10).sum()) == 5
    assert int((input_directions(model, [(x, x)], 500, 5, generator())["0"].shares > 1e-10).sum()) == 9


def test_importance_is_symmetric_with_eigenvalues_between_0_and_1() -> None:
    directions = of(torch.randn(6, 4, generator=generator(), dtype=torch.float64))
    for alpha in (0.0, 0.5, 3.0, 1e3, 1e9):
        m = directions.importance(alpha)[0]
        torch.testing.assert_close(m, m.T, rtol=0, atol=1e-14)
        values = torch.linalg.eigvalsh(m)
        assert -1e-12 < float(values.min()) <= float(values.max()) < 1 + 1e-12
    assert torch.equal(directions.importance(0.0), torch.zeros(1, 6, 6, dtype=torch.float64))
    energy = (directions.vectors * directions.shares.unsqueeze(-2)) @ directions.vectors.mT
    torch.testing.assert_close(directions.importance(1.0), energy)


def test_no_forget_strength_projects_nothing() -> None:
    x, y = torch.randn(2, 6, 9, generator=generator(), dtype=torch.float64)
    assert torch.equal(projection(of(x), of(y), 0.0, 100.0)[0], torch.eye(6, dtype=torch.float64))


def test_equal_spaces_keep_what_they_span() -> None:
    x = torch.randn(8, 3, generator=generator(), dtype=torch.float64)
    p = projection(of(x), of(x), 1e9, 1e9)[0]
    torch.testing.assert_close(p @ x, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [3.0, 1e9])
def test_inputs_orthogonal_to_the_forget_space_give_the_same_outputs(alpha: float) -> None:
    x = torch.randn(8, 3, generator=generator(), dtype=torch.float64)
    y = torch.randn(8, 5, generator=generator(1), dtype=torch.float64)
    with seeded(0):
        model = nn.Sequential(nn.Linear(8, 4)).double()
    u = torch.linalg.qr(x)[0]
    free = torch.randn(8, 7, generator=generator(2), dtype=torch.float64)
    free = free - u @ (u.T @ free)
    before, forgotten = model(free.T).detach(), model(x.T).detach()
    rank = torch.linalg.matrix_rank(model[0].weight)
    bias = model[0].bias.clone()
    project(model, {"0": projection(of(x), of(y), alpha, 100.0)})
    torch.testing.assert_close(model(free.T).detach(), before, rtol=0, atol=1e-10)
    assert float((model(x.T).detach() - forgotten).norm()) > 0.1
    assert torch.equal(model[0].bias, bias)
    assert torch.linalg.matrix_rank(model[0].weight) <= rank


def test_left_null_space_stays() -> None:
    with seeded(0):
        model = nn.Sequential(nn.Linear(8, 4, bias=False)).double()
    with torch.no_grad():
        model[0].weight[3] = model[0].weight[0] - 2 * model[0].weight[1]
    left = torch.tensor([1.0, -2.0, 0.0, -1.0], dtype=torch.float64)
    x, y = torch.randn(2, 8, 3, generator=generator(), dtype=torch.float64)
    project(model, {"0": projection(of(x), of(y), 30.0, 100.0)})
    torch.testing.assert_close(left @ model[0].weight.detach(), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-12)
