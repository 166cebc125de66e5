"""fisher_diagonal against the loop of batch one, torch.func and closed forms; every trap of per-sample squares."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from efface.curvature import fisher_diagonal
from efface.errors import InputError
from tests.cases import NAMES, case

# float64 sums of a few products in different orders: 1e-15 each, a few orders of slack for the chain of layers.
TIGHT = 1e-11


def loop(model, x, targets, weights=None):
    """Sum of w_i (gradient of −log p_i(target_i))², one sample at a time."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    weights = torch.ones(len(x)) if weights is None else weights
    sums = {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
    for i, w in enumerate(weights):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), targets[i : i + 1])
        for name, g in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            sums[name] += float(w) * g**2
    return sums


def functional(model, x, targets):
    """The same by torch.func, for all parameters at once."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p, sample, target):
        logits = functional_call(model, p, (sample.unsqueeze(0),))
        return nn.functional.cross_entropy(logits, target.unsqueeze(0))

    with sdpa_kernel(SDPBackend.MATH):
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, targets)
    return {name: (g**2).sum(0) for name, g in gradients.items()}


def assert_same(found, expected, tolerance=TIGHT):
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = float(value.abs().max())
        assert float((found[name] - value).abs().max()) <= tolerance * scale + 1e-300, name


@pytest.mark.parametrize("name", NAMES)
def test_empirical_equals_the_loop_and_torch_func(name):
    c = case(name)
    found = fisher_diagonal(c.model, c.x, c.y).sum()
    assert_same(found, loop(c.model, c.x, c.y))
    if name != "branching":  # vmap refuses Python control flow on values; hooks do not
        assert_same(found, functional(c.model, c.x, c.y))


@pytest.mark.parametrize("name", NAMES)
def test_true_fisher_equals_brute_force(name):
    c = case(name, samples=4)
    p = torch.softmax(c.model(c.x), 1).detach()
    expected = {n: torch.zeros_like(v) for n, v in c.model.named_parameters()}
    for k in range(c.classes):
        for n, v in loop(c.model, c.x, torch.full_like(c.y, k), p[:, k]).items():
            expected[n] += v
    assert_same(fisher_diagonal(c.model, c.x, c.y, estimator="true").sum(), expected)


@pytest.mark.parametrize("name", ["residual, in place", "attention", "tied"])
def test_weighted_sums_in_one_pass_equal_separate_loops(name):
    c = case(name)
    forget = (c.y == c.y[0]).double()
    weights = [forget, 1 - forget, torch.linspace(0, 2, len(c.y), dtype=torch.float64)]
    found = fisher_diagonal(c.model, c.x, c.y, sample_weights=weights, chunk=3)
    for k, w in enumerate(weights):
        assert_same(found.sum(k), loop(c.model, c.x, c.y, w))
        assert found.totals[k] == pytest.approx(float(w.sum()))


def test_one_sum_per_class_equals_each_class_alone():
    c = case("residual, in place", samples=12)
    found = fisher_diagonal(c.model, c.x, c.y, sample_weights="class")
    assert len(found.sums) == c.classes
    for k in range(c.classes):
        assert_same(found.sum(k), loop(c.model, c.x, c.y, (c.y == k).double()))


@pytest.mark.parametrize("estimator", ["empirical", "true", "mc"])
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_independent_of_chunks_batches_and_order(estimator, chunk):
    c = case("residual, in place")

    def run(*data, **options):
        generator = torch.Generator().manual_seed(5)
        return fisher_diagonal(c.model, *data, estimator=estimator, generator=generator, **options).sum()

    expected = run(c.x, c.y)
    assert_same(run(c.x, c.y, chunk=chunk), expected)
    if estimator != "mc":  # its labels are drawn batch by batch, in order
        order = torch.randperm(len(c.y), generator=torch.Generator().manual_seed(1))
        assert_same(run(((c.x[i], c.y[i]) for i in order.split(2)), chunk=chunk), expected)


def test_mc_fisher_is_unbiased():
    c = case("mlp", samples=5)
    exact = fisher_diagonal(c.model, c.x, c.y, estimator="true").sum()
    generator = torch.Generator().manual_seed(0)
    runs = [fisher_diagonal(c.model, c.x, c.y, estimator="mc", generator=generator).sum() for _ in range(200)]
    for name, value in exact.items():
        draws = torch.stack([run[name] for run in runs])
        error = draws.std(0) / len(runs) ** 0.5
        # Within three standard errors, but for the 0.3 % of entries that chance puts outside (1 % allowed).
        assert float(((draws.mean(0) - value).abs() > 3 * error + 1e-12).double().mean()) < 0.01


def test_mc_with_many_draws_is_their_mean():
    c = case("mlp", samples=3)
    several = fisher_diagonal(
        c.model, c.x, c.y, estimator="mc", draws=400, generator=torch.Generator().manual_seed(3)
    ).sum()
    exact = fisher_diagonal(c.model, c.x, c.y, estimator="true").sum()
    # 400 draws of at most 4 labels: relative error of the total below 5 % (three standard errors are about 4 %).
    total, expected = (sum(float(v.sum()) for v in sums.values()) for sums in (several, exact))
    assert total == pytest.approx(expected, rel=0.1)


def test_batch_squared_is_no_fisher():
    c = case("mlp", samples=8)
    order = torch.argsort(c.y)

    def run(index, size):
        batches = [(c.x[i], c.y[i]) for i in index.split(size)]
        return fisher_diagonal(c.model, batches, estimator="batch_squared")

    in_order, by_class, single = run(torch.arange(8), 4), run(order, 4), run(torch.arange(8), 1)
    assert_same(single.mean(), fisher_diagonal(c.model, c.x, c.y).mean())
    gradients = torch.autograd.grad(nn.functional.cross_entropy(c.model(c.x[:4]), c.y[:4]), list(c.model.parameters()))
    first = fisher_diagonal(c.model, [(c.x[:4], c.y[:4])], estimator="batch_squared").mean()
    assert_same(first, {n: g**2 for (n, _), g in zip(c.model.named_parameters(), gradients, strict=True)})
    assert in_order.totals == (2.0,)
    totals = [sum(float(v.sum()) for v in run.mean().values()) for run in (in_order, by_class, single)]
    assert all(abs(a / b - 1) > 0.05 for a, b in itertools.combinations(totals, 2))  # order and size both matter
    with pytest.raises(InputError, match="no sum over samples"):
        in_order - by_class


def test_softmax_regression_has_the_textbook_fisher():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3)).double().eval()
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    p = torch.softmax(model(x), 1).detach()
    found = fisher_diagonal(model, x, torch.zeros(6, dtype=torch.int64), estimator="true").mean()
    expected = {"0.weight": (p * (1 - p)).T @ x**2 / 6, "0.bias": (p * (1 - p)).mean(0)}
    assert_same(found, expected)

    def loss(weight):
        return nn.functional.cross_entropy(x @ weight.T + model[0].bias.detach(), torch.zeros(6, dtype=torch.int64))

    hessian = torch.autograd.functional.hessian(loss, model[0].weight.detach())
    diagonal = hessian.reshape(15, 15).diagonal().view(3, 5)
    assert_same({"w": found["0.weight"]}, {"w": diagonal})


@given(cut=st.integers(1, 11), seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_sums_over_parts_add_up_and_subtract(cut, seed):
    c = case("mlp", samples=12, seed=seed)
    whole = fisher_diagonal(c.model, c.x, c.y)
    forget, retain = (fisher_diagonal(c.model, c.x[s], c.y[s]) for s in (slice(cut), slice(cut, None)))
    assert_same((forget + retain).sum(), whole.sum())
    assert_same((whole - forget).sum(), retain.sum(), tolerance=1e-9)  # cancellation in float64
    assert (whole - forget).totals == (12.0 - cut,)


def test_float32_model_matches_its_float64_twin():
    c = case("residual, in place")
    expected = fisher_diagonal(c.model, c.x, c.y).sum()
    found = fisher_diagonal(copy.deepcopy(c.model).float(), c.x.float(), c.y)
    assert all(v.dtype == torch.float64 for v in found.sum().values())
    assert_same({n: v.double() for n, v in found.sum().items()}, expected, tolerance=1e-4)  # float32 gradients


def test_half_precision_squares_do_not_vanish():
    model = nn.Sequential(nn.Linear(4, 3)).bfloat16().eval()
    x = torch.full((2, 4), 1e-3, dtype=torch.bfloat16)
    found = fisher_diagonal(model, x, torch.tensor([0, 1])).sum()
    assert float(found["0.weight"].min()) > 0  # about 1e-7, squares of 1e-4 and less


@pytest.mark.parametrize("name", NAMES)
def test_model_is_left_bit_identical(name):
    c = case(name)
    frozen = next(iter(c.model.parameters())).requires_grad_(name != "conv1d")
    before = {n: v.clone() for n, v in c.model.state_dict().items()}
    flags = [p.requires_grad for p in c.model.parameters()]
    hooks = sum(len(m._forward_hooks) for m in c.model.modules())
    fisher_diagonal(c.model, c.x, c.y, parameters=[list(dict(c.model.named_parameters()))[-1]])
    fisher_diagonal(c.model, c.x, c.y)
    assert all(torch.equal(before[n], v) for n, v in c.model.state_dict().items())
    assert flags == [p.requires_grad for p in c.model.parameters()]
    assert hooks == sum(len(m._forward_hooks) for m in c.model.modules())
    assert all(p.grad is None for p in c.model.parameters())
    assert frozen.requires_grad == (name != "conv1d")


def test_chosen_parameters_equal_their_share_of_all():
    c = case("residual, in place")
    everything = fisher_diagonal(c.model, c.x, c.y).sum()
    for chosen in (["6.weight"], ["2.conv1.weight", "6.bias"], ["2.bn2.weight"]):
        assert_same(fisher_diagonal(c.model, c.x, c.y, parameters=chosen).sum(), {n: everything[n] for n in chosen})


def test_frozen_parameters_are_left_out_and_the_rest_is_unchanged():
    c = case("residual, in place")
    everything = fisher_diagonal(c.model, c.x, c.y).sum()
    c.model[2].requires_grad_(False)
    found = fisher_diagonal(c.model, c.x, c.y).sum()
    assert_same(found, {n: v for n, v in everything.items() if not n.startswith("2.")})


def test_parameters_without_closed_form_are_named():
    found = fisher_diagonal(case("attention").model, *_data("attention")).functional
    assert set(found) == {
        "token",
        "positions",
        *(f"attention.{n}" for n in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")),
    }
    assert set(fisher_diagonal(case("tied").model, *_data("tied")).functional) == {
        "twice.weight",
        "twice.bias",
        "once.weight",
    }
    assert fisher_diagonal(case("residual, in place").model, *_data("residual, in place")).functional == ()


def test_a_weight_shared_by_two_layers_gets_the_sum_of_both_before_the_square():
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()
    model[2].weight = model[0].weight
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(6) % 3
    found = fisher_diagonal(model, x, y)
    assert found.functional == ("0.bias", "0.weight", "2.bias")  # both layers go that way as a whole
    assert_same(found.sum(), loop(model, x, y))


def test_memory_layout_of_weights_and_inputs_does_not_matter():
    c = case("residual, in place")
    expected = fisher_diagonal(c.model, c.x, c.y).sum()
    twin = copy.deepcopy(c.model).to(memory_format=torch.channels_last)
    found = fisher_diagonal(twin, c.x.contiguous(memory_format=torch.channels_last), c.y).sum()
    assert_same(found, expected)
    assert all(value.is_contiguous() for value in found.values())


@pytest.mark.parametrize("samples", [3, 9])
def test_a_convolution_called_twice_gets_the_sum_of_both_before_the_square(samples):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 3, padding=1)
    model = nn.Sequential(layer, nn.Tanh(), layer, nn.Flatten(), nn.Linear(32, 3)).double().eval()
    x, y = torch.randn(samples, 2, 4, 4).double(), torch.arange(samples) % 3
    found = fisher_diagonal(model, x, y)
    assert found.functional == ("0.bias", "0.weight")
    assert_same(found.sum(), loop(model, x, y))


def test_padding_rows_of_an_embedding_get_nothing():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(6, 4, padding_idx=2)
            self.head = nn.Linear(4, 3)

        def forward(self, ids):
            return self.head(torch.tanh(self.table(ids)).sum(1))

    model = Bag().double().eval()
    ids, y = torch.tensor([[2, 2, 1], [4, 4, 4], [0, 2, 5]]), torch.tensor([0, 1, 2])
    found = fisher_diagonal(model, ids, y)
    assert found.functional == ()
    assert_same(found.sum(), loop(model, ids, y))
    assert float(found.sum()["table.weight"][2].abs().max()) == 0


def test_weight_norm_is_not_mistaken_for_a_plain_layer():
    c = case("mlp")
    c.model[1] = nn.utils.parametrizations.weight_norm(c.model[1]).eval()
    found = fisher_diagonal(c.model, c.x, c.y)
    assert "1.parametrizations.weight.original0" in found.functional
    assert_same(found.sum(), loop(c.model, c.x, c.y))


def test_saturated_samples_are_reported():
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[100.0, 0.0], [0.0, 0.0]]))
    x = torch.tensor([[9.0, 0.0], [0.001, 0.0], [9.0, 1.0], [9.0, 2.0]])
    found = fisher_diagonal(model, x, torch.tensor([0, 0, 0, 1]))
    assert found.saturated == 0.5  # samples 0 and 2; sample 3 has the other label
    assert fisher_diagonal(model, x[:1], torch.tensor([0])).sum()["0.weight"].abs().max() < 1e-30


def _data(name):
    c = case(name)
    return c.x, c.y


def _bad_norm():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(16, 4)
    )


class _Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(48, 4), nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x.flatten(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"model": c.model.train()}, r"train mode.*model\.eval\(\)"),
        (lambda c: {"model": nn.Sequential(nn.Dropout().train(), c.model)}, "train mode"),
        (lambda c: {"model": _bad_norm().double().eval()}, "running statistics"),
        (lambda c: {"model": _Unused().double().eval()}, "'unused.weight' receives no gradient"),
        (lambda c: {"model": c.model.requires_grad_(False)}, "no trainable parameter"),
        (lambda c: {"x": c.x * float("nan")}, "loss of sample 0 is nan"),
        (lambda c: {"x": c.x[:0], "y": c.y[:0]}, "empty|0 samples"),
        (lambda c: {"x": [], "y": None}, "0 samples"),
        (lambda c: {"y": None}, "without labels"),
        (lambda c: {"x": [(c.x, c.y)]}, "beside batches"),
        (lambda c: {"y": c.y[:-1]}, "do not match"),
        (lambda c: {"y": c.y.double()}, "allowed are integers"),
        (lambda c: {"y": c.y + 4}, "4 classes"),
        (lambda c: {"sample_weights": [torch.ones(3)]}, "3 entries for"),
        (lambda c: {"sample_weights": [torch.ones(99)]}, "99 entries for 7"),
        (lambda c: {"sample_weights": [torch.ones(7), torch.ones(8)]}, "shapes"),
        (lambda c: {"sample_weights": "klass"}, "'class'"),
        (lambda c: {"estimator": "empircal"}, "Did you mean 'empirical'"),
        (lambda c: {"estimator": "mc"}, "torch.Generator"),
        (lambda c: {"estimator": "batch_squared"}, "iterable of"),
        (lambda c: {"parameters": ["nothing"]}, "'nothing' is no trainable parameter"),
        (lambda c: {"chunk": 0}, ">= 1"),
        (lambda c: {"model": nn.Identity().eval()}, "no trainable parameter"),
        (lambda c: {"model": nn.Sequential(nn.Conv2d(3, 4, 1)).double().eval()}, "expected logits"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(change, message):
    c = case("mlp")
    given_ = {"model": c.model, "x": c.x, "y": c.y, **change(c)}
    model, x, y = (given_.pop(key) for key in ("model", "x", "y"))
    with pytest.raises(InputError, match=message):
        fisher_diagonal(model, x, y, **given_)


def test_mean_of_an_empty_weighting_is_refused():
    c = case("mlp")
    found = fisher_diagonal(c.model, c.x, c.y, sample_weights=[torch.zeros(7)])
    with pytest.raises(InputError, match="no weight to any sample"):
        found.mean()
