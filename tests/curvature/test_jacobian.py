"""Jacobian rows and products against torch.func on whole networks (NTK sheet, checks 3 and 4)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from efface.curvature.jacobian import Linearisation
from efface.running.seeding import seeded


def strided_cnn() -> nn.Module:
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3),
        )  # fmt: skip
        for module in model:
            if isinstance(module, nn.BatchNorm2d):  # default statistics of 0 and 1 would hide errors
                nn.init.uniform_(module.running_mean, -1, 1)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


class Scaled(nn.Module):
    """A scalar and a shared parameter: no closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 5)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.second = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.second(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


def oracle(model: nn.Module, x: Tensor) -> Tensor:
    parameters = {n: p.detach().double() for n, p in model.named_parameters()}
    buffers = {n: b.double() if b.is_floating_point() else b for n, b in model.named_buffers()}

    def one(p: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, (p, buffers), (sample[None],))[0]

    with sdpa_kernel(SDPBackend.MATH):
        found = vmap(jacrev(one), in_dims=(None, 0))(parameters, x.double())
    return torch.cat([found[n].reshape(*found[n].shape[:2], -1) for n in parameters], 2)


class Attentive(nn.Module):
    """A transformer layer over the rows of an image: attention has no closed form and several fused kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.squeeze(1))[:, 0])


@pytest.mark.parametrize("kind", ["cnn", "scaled", "attention"])
def test_3_and_4_rows_and_products(kind: str) -> None:
    with seeded(1):
        model = {"cnn": strided_cnn, "scaled": Scaled, "attention": Attentive}[kind]().eval()
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(7, 1, 8, 8, generator=draw)
    at = Linearisation(model)
    expected = oracle(model, x)
    rows = at.rows(x)
    torch.testing.assert_close(rows, expected, rtol=1e-10, atol=1e-10)
    gram = rows.flatten(0, 1) @ rows.flatten(0, 1).T
    torch.testing.assert_close(gram, expected.flatten(0, 1) @ expected.flatten(0, 1).T, rtol=1e-5, atol=1e-8)
    v = torch.randn(at.size, generator=draw, dtype=torch.float64)
    u = torch.randn(*rows.shape[:2], generator=draw, dtype=torch.float64)
    torch.testing.assert_close(at.times(x, v), expected @ v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(at.transposed(x, u), torch.einsum("bk,bkp->p", u, expected), rtol=1e-9, atol=1e-9)


def test_single_precision_agrees() -> None:
    model, draw = strided_cnn(), torch.Generator().manual_seed(0)
    x = torch.randn(4, 1, 8, 8, generator=draw)
    double, single = Linearisation(model), Linearisation(model, dtype=torch.float32)
    v = torch.randn(double.size, generator=draw, dtype=torch.float64)
    u = torch.randn(4, 3, generator=draw, dtype=torch.float64)
    for a, b in (
        (double.times(x, v), single.times(x, v)),
        (double.transposed(x, u), single.transposed(x, u)),
        (double.rows(x), single.rows(x)),
    ):
        assert b.dtype == torch.float64
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


def test_a_subset_of_parameters_and_the_vector_order() -> None:
    model = strided_cnn()
    at = Linearisation(model, ["6.bias", "0.weight"])
    assert list(at.parameters) == ["0.weight", "6.bias"]
    assert torch.equal(at.flat(at.named(at.weights())), at.weights())
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    full = oracle(model, x)
    torch.testing.assert_close(at.rows(x)[..., -3:], full[..., -3:])
    torch.testing.assert_close(at.rows(x)[..., :36], full[..., :36])
