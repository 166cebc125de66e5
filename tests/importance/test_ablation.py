"""Exact ablation against the zero-and-restore loop, unit by unit, on every route."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efface.errors import InputError
from efface.importance import Unit, ablation_importance, unit_list, zeroed
from efface.models import lenet5, resnet18
from efface.running.extras import import_torchvision
from tests.cases import NAMES, case


def naive(model, x, y, units):
    """Correctness lost and won, and the rise of the summed loss, by setting weights to zero one unit at a time."""
    before = model(x)
    rows = []
    for unit in units:
        layer = model.get_submodule(unit.layer)
        saved = {name: p.detach().clone() for name, p in layer.named_parameters(recurse=False)}
        with torch.no_grad():
            layer.weight[unit.index] = 0
            if len(unit.index) == 1 and layer.bias is not None and not unit.keep_bias:
                layer.bias[unit.index] = 0
            after = model(x)
            for name, value in saved.items():
                getattr(layer, name).copy_(value)
        right, still = before.argmax(1) == y, after.argmax(1) == y
        rise = nn.functional.cross_entropy(after, y) - nn.functional.cross_entropy(before, y)
        rows.append((int((right & ~still).sum()), int((still & ~right).sum()), float(rise)))
    lost, won, rise = zip(*rows, strict=True)
    return torch.tensor(lost), torch.tensor(won), torch.tensor(rise, dtype=torch.float64)


def assert_equals_naive(model, x, y, units, tolerance=1e-9, **options):
    found = ablation_importance(model, x, y, units=units, **options)
    with torch.no_grad():
        lost, won, rise = naive(model, x, y, found.units)
    assert torch.equal(found.lost, lost)
    assert torch.equal(found.won, won)
    assert torch.allclose(found.accuracy_drop, (lost - won).double() / len(y), rtol=0, atol=1e-12)
    assert float((found.loss_rise - rise).abs().max()) < tolerance
    return found


def labels_around(model, x, seed=0):
    """The model's own predictions, a third of them replaced: some samples start wrong and may become right."""
    generator = torch.Generator().manual_seed(seed)
    y = model(x).argmax(1)
    wrong = torch.rand(len(y), generator=generator) < 0.33
    return torch.where(wrong, torch.randint(0, 4, y.shape, generator=generator), y)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "wide"])
def test_units_that_leave_their_biases_equal_the_naive_loop(name):
    """On every route; every second unit, so that both kinds meet in one layer."""
    c = case(name)
    with torch.no_grad():
        for module in c.model.modules():
            if getattr(module, "bias", None) is not None and isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                module.bias += 0.5  # large enough to tell a bias that stays from one that does not
    units = [replace(u, keep_bias=i % 2 == 0) for i, u in enumerate(unit_list(c.model))]
    assert_equals_naive(c.model, c.x, labels_around(c.model, c.x), units)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "wide"])  # 704 units: seconds in the naive loop
@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.seconds
def test_filters_and_neurons_equal_the_naive_loop(name, chunk):
    c = case(name, samples=24)
    y = labels_around(c.model, c.x)
    found = assert_equals_naive(c.model, c.x, y, "filter", chunk=chunk)
    if name != "tokens":  # its averaged logits barely move
        assert int(found.lost.sum()) > 0
        assert int(found.won.sum()) > 0


@pytest.mark.parametrize("name", ["mlp", "grouped, dilated, circular", "conv1d", "tokens", "branching", "tied"])
def test_single_weights_equal_the_naive_loop(name):
    c = case(name, samples=12)
    units = unit_list(c.model, "weight")[::3]
    assert_equals_naive(c.model, c.x, labels_around(c.model, c.x), units)


def test_routes_are_named():
    def routes(name, units="filter"):
        c = case(name)
        return ablation_importance(c.model, c.x, c.y, units=units).routes

    assert set(routes("residual, in place").values()) == {"graph"}
    assert set(routes("branching").values()) == {"hooks"}
    assert set(routes("branching", "weight").values()) == {"naive"}
    assert routes("tied") == {"twice": "naive", "once": "naive", "head": "graph"}
    attention = routes("attention")
    assert attention["attention.out_proj"] == "naive"  # its weight is read by the attention itself
    assert attention["mlp.0"] == attention["head"] == "graph"


def test_lenet5_has_236_units_and_equals_the_naive_loop():
    generator = torch.Generator().manual_seed(0)
    model = lenet5().eval()
    x = torch.randn(20, 1, 28, 28, generator=generator)
    # float32: losses near 2.3, summed differently.
    found = assert_equals_naive(model, x, labels_around(model, x), "filter", tolerance=1e-5)
    assert len(found.units) == 236
    assert set(found.routes.values()) == {"graph"}


def test_resnet18_equals_the_naive_loop():
    generator = torch.Generator().manual_seed(0)
    model = resnet18(width=2).double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.2 * torch.randn(module.num_features, generator=generator))
                module.weight.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    x = torch.randn(10, 3, 16, 16, generator=generator).double()
    found = assert_equals_naive(model, x, labels_around(model, x), "filter")
    assert set(found.routes.values()) == {"graph"}


@pytest.mark.seconds
def test_torchvision_resnet18_equals_the_naive_loop():
    try:
        torchvision = import_torchvision()
    except (ImportError, InputError) as error:
        pytest.skip(f"torchvision is not installed: {error}")
    model = torchvision.models.resnet18(num_classes=4).double().eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 32, 32, generator=generator).double()
    units = unit_list(model)
    assert len(units) == 4804
    found = assert_equals_naive(model, x, labels_around(model, x), units[::480])
    assert set(found.routes.values()) == {"graph"}


def test_ties_are_settled_without_shortcuts():
    # All logits equal: every rounding error decides a prediction, the naive loop's included.
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    with torch.no_grad():
        model[2].weight.copy_(model[2].weight[:1].expand(4, -1).clone())
        model[2].bias.zero_()
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    found = ablation_importance(model, x, torch.zeros(30, dtype=torch.int64), units=unit_list(model)[:8])
    assert int(found.lost.sum()) == 0


@given(seed=st.integers(0, 10**6), widths=st.lists(st.integers(1, 6), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_any_mlp_equals_the_naive_loop(seed, widths):
    generator = torch.Generator().manual_seed(seed)
    sizes = [5, *widths, 4]
    layers = [
        part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b, bias=seed % 2 == 0), nn.LeakyReLU())
    ]
    model = nn.Sequential(*layers[:-1]).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.randn(9, 5, generator=generator).double()
    assert_equals_naive(model, x, torch.randint(0, 4, (9,), generator=generator), "filter")


@pytest.mark.parametrize("name", ["residual, in place", "branching", "tied", "attention"])
def test_model_is_left_bit_identical(name):
    c = case(name)
    before = {n: v.clone() for n, v in c.model.state_dict().items()}
    ablation_importance(c.model, c.x, c.y)
    assert all(torch.equal(before[n], v) for n, v in c.model.state_dict().items())
    assert not any("forward" in vars(m) or m._forward_hooks for m in c.model.modules())


def test_zeroed_restores_even_after_an_error():
    c = case("mlp")
    before = c.model[1].weight.clone()
    layer = c.model[1]

    def fail():
        assert not layer.weight[0].any()
        assert not layer.bias[0].any()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), zeroed(c.model, [Unit("1", (0,)), Unit("1", (0, 3))]):
        fail()
    assert torch.equal(before, c.model[1].weight)


def test_unit_lists_count_what_they_say():
    model = lenet5()
    weights = sum(p.numel() for n, p in model.named_parameters() if n.endswith("weight"))
    assert [len(unit_list(model, g)) for g in ("filter", "neuron", "weight")] == [236, 214, weights]
    assert unit_list(model, "neuron")[0] == Unit("fc1", (0,))


def test_top_breaks_ties_by_loss():
    c = case("residual, in place", samples=20)
    found = ablation_importance(c.model, c.x, c.y)
    order = found.top(len(found.units))
    key = {u: (float(d), float(r)) for u, d, r in zip(found.units, found.accuracy_drop, found.loss_rise, strict=True)}
    assert [key[u] for u in order] == sorted(key.values(), reverse=True)
    with pytest.raises(InputError, match="k must be between"):
        found.top(len(order) + 1)


def test_the_bound_of_a_subsample_holds():
    c = case("mlp", samples=400)
    y = labels_around(c.model, c.x)
    exact = ablation_importance(c.model, c.x, y)
    assert float(exact.half_width().max()) == 0
    outside = 0
    for seed in range(20):
        some = ablation_importance(c.model, c.x, y, subsample=200, generator=torch.Generator().manual_seed(seed))
        assert (some.samples, some.population) == (200, 400)
        error = (some.accuracy_drop - exact.accuracy_drop).abs()
        outside += int((error > some.half_width(0.9)).any())
        assert float(some.half_width(0.9).max()) < 0.25  # not vacuous
        assert bool((some.half_width(0.9) >= some.half_width(0.9, simultaneous=False)).all())
    assert outside <= 2  # at most 10 % of 20 runs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"model": c.model.train()}, "train mode"),
        (lambda c: {"x": c.x * float("nan")}, "is nan"),
        (lambda c: {"x": c.x[:0], "y": c.y[:0]}, "0 samples"),
        (lambda c: {"classes": [0, 9]}, r"no sample of class \[9\]"),
        (lambda c: {"units": []}, "No units"),
        (lambda c: {"units": [Unit("7", (0,))]}, "'7' is no convolution or linear layer"),
        (lambda c: {"units": [Unit("1", (9,))]}, "does not index"),
        (lambda c: {"units": [Unit("1", (-1,))]}, "does not index"),
        (lambda c: {"units": "filters"}, "Did you mean 'filter'"),
        (lambda c: {"subsample": 3}, "torch.Generator"),
        (lambda c: {"subsample": 0, "generator": torch.Generator()}, "between 1 and"),
        (lambda c: {"y": c.y + 4}, "4 classes"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(change, message):
    c = case("mlp")
    options = {"model": c.model, "x": c.x, "y": c.y, **change(c)}
    model, x, y = (options.pop(key) for key in ("model", "x", "y"))
    with pytest.raises(InputError, match=message):
        ablation_importance(model, x, y, **options)


def test_a_missing_class_is_noticed_in_batches_too():
    c = case("mlp")
    with pytest.raises(InputError, match="no sample of class"):
        ablation_importance(c.model, [(c.x, c.y)], classes=[11])
