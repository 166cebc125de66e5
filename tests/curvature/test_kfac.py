"""K-FAC factors against sums over samples and positions, and against the Fisher matrix where they are exact."""

import pytest
import torch
from torch import nn

from efface.curvature import fisher_diagonal, kfac, precondition
from efface.errors import InputError
from tests.cases import case


def fisher_block(model, x, names):
    """Brute force Σ_i Σ_c p_i(c) s s^T / n over [W b] of one layer, columns stacked (index i·O + o)."""
    parameters = [dict(model.named_parameters())[n] for n in names]
    logits = model(x)
    p = torch.softmax(logits, 1).detach()
    total = 0
    for i in range(len(x)):
        for k in range(p.shape[1]):
            g = torch.autograd.grad(torch.log_softmax(logits[i], 0)[k], parameters, retain_graph=True)
            s = torch.cat([g[0].flatten(1), *(v.unsqueeze(1) for v in g[1:])], 1).T.flatten()
            total = total + p[i, k] * torch.outer(s, s)
    return total / len(x)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_one_sample_of_a_linear_layer_is_exact(sharing):
    c = case("mlp", samples=1)
    factors = kfac(c.model, c.x, c.y, sharing=sharing)
    assert set(factors) == {"1", "3"}
    for layer in factors:
        expected = fisher_block(c.model, c.x, [f"{layer}.weight", f"{layer}.bias"])
        assert torch.allclose(factors[layer].matrix(), expected, rtol=1e-9, atol=1e-14)


def test_linear_softmax_regression_with_equal_outputs_is_exact():
    # With zero weights p does not depend on the input, so A and G are independent and F = A ⊗ G.
    model = nn.Sequential(nn.Linear(5, 3)).double().eval()
    with torch.no_grad():
        model[0].weight.zero_()
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).double()
    y = torch.zeros(7, dtype=torch.int64)
    factors = kfac(model, x, y)["0"]
    assert torch.allclose(factors.matrix(), fisher_block(model, x, ["0.weight", "0.bias"]), rtol=1e-9, atol=1e-14)
    diagonal = fisher_diagonal(model, x, y, estimator="true").mean()
    found = torch.cat([diagonal["0.weight"], diagonal["0.bias"].unsqueeze(1)], 1)
    assert torch.allclose(factors.diagonal(), found, rtol=1e-9, atol=1e-14)


def test_reduce_is_exact_for_one_sample_of_a_convolution_read_by_its_mean():
    # Σ_t g_t a_tᵀ = (Σ_t g_t) āᵀ when g is the same at every position: a linear network with global averaging.
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).double().eval()
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    factors = kfac(model, x, torch.tensor([0]), sharing="reduce")["0"]
    assert torch.allclose(factors.matrix(), fisher_block(model, x, ["0.weight", "0.bias"]), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["residual, in place", "tokens", "conv1d"])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_factors_equal_sums_over_samples_and_positions(name, sharing):
    c = case(name, samples=5)
    found = kfac(c.model, c.x, c.y, sharing=sharing, estimator="empirical", chunk=2)
    seen = {}

    def note(module, args, out):
        out.retain_grad()
        seen[module] = (args[0], out)
        return out.clone()  # in-place activations would overwrite it

    layers = {n: m for n, m in c.model.named_modules() if type(m) in (nn.Linear, nn.Conv1d, nn.Conv2d)}
    assert set(found) == set(layers)
    handles = [m.register_forward_hook(note) for m in layers.values()]
    nn.functional.cross_entropy(c.model(c.x), c.y, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    for layer, module in layers.items():
        a, g = seen[module][0].detach(), seen[module][1].grad
        if isinstance(module, nn.Linear):
            a, g = (v.reshape(len(c.x), -1, v.shape[-1]) for v in (a, g))
        else:
            two = (lambda v: v.unsqueeze(2)) if isinstance(module, nn.Conv1d) else (lambda v: v)
            k, s, p = (((1, v[0]) if len(v) == 1 else v) for v in (module.kernel_size, module.stride, module.padding))
            p = (0, module.padding[0]) if isinstance(module, nn.Conv1d) else p
            a = nn.functional.unfold(two(a), k, 1, p, s).transpose(1, 2)
            g = g.flatten(2).transpose(1, 2)
        if module.bias is not None:
            a = torch.cat([a, torch.ones(*a.shape[:2], 1, dtype=a.dtype)], 2)
        n, t = a.shape[:2]
        if sharing == "expand":
            A, G = torch.einsum("nti,ntj->ij", a, a) / (n * t), torch.einsum("nto,ntp->op", g, g) / n
        else:
            A, G = (
                torch.einsum("ni,nj->ij", a.mean(1), a.mean(1)) / n,
                torch.einsum("no,np->op", g.sum(1), g.sum(1)) / n,
            )
        assert torch.allclose(found[layer].A, A, rtol=1e-9, atol=1e-13)
        assert torch.allclose(found[layer].G, G, rtol=1e-9, atol=1e-13)


def test_damped_powers_invert():
    c = case("mlp", samples=3)  # fewer samples than inputs: A is singular
    factors = kfac(c.model, c.x, c.y)["1"]
    damping = 1e-3
    damped = factors.damped(damping)
    pi = ((factors.A.trace() / len(factors.A)) / (factors.G.trace() / len(factors.G))).sqrt()
    eye = torch.eye(len(factors.G)).double()
    assert torch.allclose(damped.G, factors.G + damping**0.5 / pi * eye, atol=1e-14)
    inverse, root = factors.power(-1, damping), factors.power(-0.5, damping)
    for a, b, r in ((damped.A, inverse.A, root.A), (damped.G, inverse.G, root.G)):
        # Condition numbers up to 1e5 in float64.
        assert torch.allclose(a @ b, torch.eye(len(a)).double(), atol=1e-8)
        assert torch.allclose(r @ r, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))
    matrix = torch.randn(9, 49, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(inverse.apply(damped.apply(matrix)), matrix, atol=1e-7)
    assert torch.allclose(inverse.apply(matrix).T.flatten(), inverse.matrix() @ matrix.T.flatten(), atol=1e-6)
    with pytest.raises(InputError, match="must be positive"):
        factors.damped(0)


def test_precondition_splits_weight_and_bias():
    c = case("residual, in place", samples=4)
    factors = {n: f.power(-1, 1e-2) for n, f in kfac(c.model, c.x, c.y).items()}
    gradients = {
        n: torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).double()
        for n, p in c.model.named_parameters()
    }
    found = precondition(factors, gradients)
    assert set(found) == {
        "0.weight",
        "0.bias",
        "2.conv1.weight",
        "2.conv2.weight",
        "2.down.0.weight",
        "6.weight",
        "6.bias",
    }
    matrix = torch.cat([gradients["0.weight"].flatten(1), gradients["0.bias"].unsqueeze(1)], 1)
    expected = factors["0"].G @ matrix @ factors["0"].A
    assert torch.allclose(found["0.weight"].flatten(1), expected[:, :-1])
    assert torch.allclose(found["0.bias"], expected[:, -1])
    with pytest.raises(InputError, match=r"'6\.bias' is missing"):
        precondition(factors, {n: g for n, g in gradients.items() if n != "6.bias"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("grouped, dilated, circular", {}, "grouped convolution"),
        ("tied", {}, "several places"),
        ("mlp", {"sharing": "expend"}, "Did you mean 'expand'"),
        ("mlp", {"estimator": "batch_squared"}, "for K-FAC"),
        ("mlp", {"estimator": "mc"}, r"torch\.Generator"),
    ],
)
def test_bad_input_is_refused(name, options, message):
    c = case(name)
    with pytest.raises(InputError, match=message):
        kfac(c.model, c.x, c.y, **options)
