"""Screening: the scores against their definitions, and the candidates against the exact ranking."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.importance import Unit, ablation_importance, overlap, screened_importance, screening_scores, unit_list
from tests.cases import case


def test_taylor_at_a_plain_layer_is_activation_times_gradient():
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4)).double().eval()
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(8) % 4
    hidden = model[0](x)
    loss = nn.functional.cross_entropy(model[1](hidden), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, hidden)
    units = [Unit("0", (u,)) for u in range(6)]
    product = (hidden * gradient).detach()
    assert torch.allclose(screening_scores(model, x, y, units=units, score="taylor"), product.sum(0).abs())
    assert torch.allclose(screening_scores(model, x, y, units=units, score="fisher"), product.square().mean(0))


@pytest.mark.parametrize("name", ["large maps", "grouped, dilated, circular", "conv1d", "mlp", "attention"])
def test_first_order_is_exact_where_the_rest_is_nearly_linear(name):
    # Behind a head with tiny weights the loss is linear in the logits, and so in the last hidden values.
    c = case(name, samples=16)
    layers = [n for n, m in c.model.named_modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    with torch.no_grad():
        c.model.get_submodule(layers[-1]).weight.mul_(1e-5)
    units = [u for u in unit_list(c.model) if u.layer == layers[-2]]
    taylor = screening_scores(c.model, c.x, c.y, units=units, score="taylor") / len(c.x)
    exact = ablation_importance(c.model, c.x, c.y, units=units).loss_rise.abs()
    assert torch.allclose(taylor, exact, rtol=1e-2, atol=1e-9)
    assert float(exact.max()) > 1e-8


def test_flips_of_the_last_hidden_layer_predict_the_exact_drop():
    # With two classes the margin is linear in the last hidden layer, so the prediction is exact there.
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)).double().eval()
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1)).double()
    y = model(x).argmax(1)
    y[::4] = 1 - y[::4]
    units = [Unit("0", (u,)) for u in range(9)]
    scores = screening_scores(model, x, y, units=units, score="flips")
    exact = ablation_importance(model, x, y, units=units).accuracy_drop
    assert float((scores - exact).abs().max()) <= 1e-3  # the smooth part that orders ties


def test_all_units_as_candidates_give_the_exact_ranking():
    c = case("residual, in place", samples=30)
    exact = ablation_importance(c.model, c.x, c.y)
    found = screened_importance(c.model, c.x, c.y, top=3, candidates=len(exact.units))
    assert found.top() == exact.top(3)
    assert overlap(found.top(), exact) == 1


def test_candidates_are_ablated_exactly_and_only_they():
    c = case("residual, in place", samples=30)
    exact = ablation_importance(c.model, c.x, c.y)
    found = screened_importance(c.model, [(c.x, c.y)], top=0.2, candidates=1.5)
    k = round(0.2 * len(exact.units))
    assert (found.k, len(found.importance.units)) == (k, round(1.5 * k))
    drop = dict(zip(exact.units, exact.accuracy_drop.tolist(), strict=True))
    assert [drop[u] for u in found.importance.units] == found.importance.accuracy_drop.tolist()
    assert set(found.top()) <= set(found.importance.units)


def test_overlap_counts_ties_at_the_border_as_members():
    c = case("mlp", samples=10)
    exact = ablation_importance(c.model, c.x, c.y)
    worst = sorted(exact.units, key=lambda u: float(exact.accuracy_drop[exact.units.index(u)]))
    assert overlap(exact.top(2), exact) == 1
    border = sorted(exact.accuracy_drop.tolist(), reverse=True)[1]
    expected = sum(float(exact.accuracy_drop[exact.units.index(u)]) >= border for u in worst[:2]) / 2
    assert overlap(worst[:2], exact) == expected < 1


def test_single_weights_have_scores_too():
    c = case("mlp", samples=12)
    units = unit_list(c.model, "weight")
    scores = screening_scores(c.model, c.x, c.y, units=units, score="taylor")
    loss = nn.functional.cross_entropy(c.model(c.x), c.y, reduction="sum")
    w = c.model[3].weight
    (gradient,) = torch.autograd.grad(loss, w)
    # The last layer is linear in its weights up to the loss: w · dL/dw.
    last = scores[-w.numel() :].view_as(w)
    assert torch.allclose(last, (w * gradient).abs().detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top=0"),
        ({"top": 99}, "top=99"),
        ({"candidates": 0.5}, "at least 1"),
        ({"score": "tailor"}, "Did you mean 'taylor'"),
    ],
)
def test_bad_input_is_refused(options, message):
    c = case("mlp")
    with pytest.raises(InputError, match=message):
        screened_importance(c.model, c.x, c.y, **options)


def test_models_that_cannot_be_traced_are_scored_at_the_outputs_of_their_layers():
    """By the chain rule by hand, with biases taken away and kept; single weights are refused."""
    c = case("branching")
    first, second = [replace(u, keep_bias=True) for u in unit_list(c.model)], unit_list(c.model)
    scores = screening_scores(c.model, c.x, c.y, units=[*first, *second], score="taylor")
    hidden = c.model.second(torch.relu(c.model.first(c.x)))
    logits = c.model(c.x)
    slope = logits.softmax(1) - nn.functional.one_hot(c.y, c.classes)
    below = slope @ c.model.head.weight * (hidden > 0)
    expected = [(hidden * below).sum(0), (logits * slope).sum(0)]
    assert torch.allclose(scores[-11:], torch.cat(expected).abs())
    left = [((hidden - c.model.second.bias) * below).sum(0), ((logits - c.model.head.bias) * slope).sum(0)]
    assert torch.allclose(scores[9:20], torch.cat(left).abs())
    with pytest.raises(InputError, match="Use ablation_importance"):
        screening_scores(c.model, c.x, c.y, units="weight")


def test_outputs_that_are_not_one_per_sample_are_refused():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(3, 4), nn.Linear(8, 2)

        def forward(self, x):
            if not bool(torch.isfinite(x).all()):
                x = torch.nan_to_num(x)
            return self.head(self.first(x.reshape(-1, 3)).reshape(len(x), 8))

    with pytest.raises(InputError, match=r"the output of 'first' has 10 rows for 5 samples.*Use ablation_importance"):
        screening_scores(Windows().eval(), torch.randn(5, 6), torch.tensor([0, 1, 0, 1, 0]))
