"""Boundary Expanding: the checks of its sheet by number (4 in full in tests/models/test_widening.py)."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.boundary_expand import BoundaryExpand, narrow, widen
from efface.models import head, mlp
from efface.models.predictions import accuracy_of
from efface.running.run import Run
from efface.running.seeding import seeded
from tests.methods.conftest import small_mlp


def run() -> Run:
    return Run(seed=1, device="cpu")


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_check_4_without_a_learning_rate_the_model_comes_back_bit_for_bit(
    trained: dict[str, Artifact], class_split: Split, name: str
) -> None:
    old = trained[name].model.state_dict()
    made = apply(BoundaryExpand(lr=0, freeze_batch_norm=True), Case(trained[name], class_split, run())).model
    assert made.state_dict().keys() == old.keys()
    assert all(torch.equal(v, old[k]) for k, v in made.state_dict().items())  # ten rows in the head again


def test_check_5_without_a_learning_rate_only_statistics_move(trained: dict[str, Artifact], class_split: Split) -> None:
    old = trained["cnn"].model.state_dict()
    made = apply(BoundaryExpand(lr=0), Case(trained["cnn"], class_split, run())).model
    parameters = dict(made.named_parameters())
    assert all(torch.equal(v, old[k]) for k, v in parameters.items())
    assert all(not torch.equal(v, old[k]) for k, v in made.named_buffers())


def test_check_6_no_retained_data_is_read(trained: dict[str, Artifact], class_split: Split) -> None:
    assert BoundaryExpand.needs.reads == ("forget",)
    apply(BoundaryExpand(epochs=1), Case(trained["mlp"], class_split.only(["forget"], "boundary-expand"), run()))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_check_8_forgets_the_class_and_keeps_the_rest(
    trained: dict[str, Artifact], class_split: Split, name: str
) -> None:
    made = apply(BoundaryExpand(lr=1e-3), Case(trained[name], class_split, run()))
    assert accuracy_of(made.model, class_split.test_forget) < 0.15
    kept = accuracy_of(made.model, class_split.test_retain)
    assert kept > accuracy_of(trained[name].model, class_split.test_retain) - 0.15


def test_one_step_by_hand(trained: dict[str, Artifact], class_split: Split) -> None:
    method = BoundaryExpand(lr=0.01, epochs=1, batch_size=10**6, min_steps=0)
    made = apply(method, Case(trained["mlp"], class_split, run())).model
    slow = run().copied(trained["mlp"].model)
    x, _ = class_split.forget.tensors()
    old = slow.get_submodule("fc2")
    assert isinstance(old, nn.Linear)
    wide = nn.Linear(64, 11)
    row = torch.randn(1, 64, generator=run().generator("boundary-expand/new class")) * (2 / 75) ** 0.5
    with torch.no_grad():
        wide.weight.copy_(torch.cat([old.weight, row]))
        wide.bias.copy_(torch.cat([old.bias, torch.zeros(1)]))
    slow.set_submodule("fc2", wide)
    F.cross_entropy(slow(x), torch.full((len(x),), 10)).backward()
    with torch.no_grad():
        for p in slow.parameters():
            assert p.grad is not None
            p -= 0.01 * p.grad
    for (name, p), q in zip(slow.named_parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(p[:10] if name.startswith("fc2") else p, q, rtol=1e-5, atol=1e-7)


def test_says_when_the_class_was_left_in_place(trained: dict[str, Artifact], class_split: Split) -> None:
    here = run()
    apply(BoundaryExpand(lr=1e-7), Case(trained["mlp"], class_split, here))
    assert any("raise lr" in note for note in here.notes)


def test_models_without_a_linear_head_are_sent_elsewhere(trained: dict[str, Artifact], class_split: Split) -> None:
    scaled = nn.Sequential(small_mlp(), nn.Softplus())
    with pytest.raises(InputError, match="boundary-shrink"):
        apply(BoundaryExpand(), Case(dataclasses.replace(trained["mlp"], model=scaled), class_split, run()))


def model(bias: bool = True, features: int = 6) -> nn.Module:
    with seeded(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, features), nn.ReLU(), nn.Linear(features, 3, bias=bias))
    return net.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_old_rows_stay_bit_for_bit_through_both(bias: bool) -> None:
    """A product with one more row may sum in another order, so logits agree to rounding while it is there."""
    net, x = model(bias), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, rows = net(x), net[3].weight.clone()
        state = torch.get_rng_state()
        widen(net, "3", torch.Generator().manual_seed(2))
        assert torch.equal(state, torch.get_rng_state())
        assert net(x).shape == (5, 4)
        assert torch.equal(net[3].weight[:3], rows)
        torch.testing.assert_close(net(x)[:, :3], before)
        narrow(net, "3")
        assert torch.equal(net(x), before)
    assert head(net, x)[1].out_features == 3


def test_the_new_row_is_xavier_normal_with_no_bias() -> None:
    net = mlp((1, 28, 28), hidden=(20_000,))
    widen(net, "fc2", torch.Generator().manual_seed(0))
    layer = net.get_submodule("fc2")
    row, bias = layer.weight[-1], layer.bias[-1]
    # A standard deviation over 20,000 draws has relative error 1 / sqrt(40,000) = 0.5 %; 3 % is six of those.
    assert float(row.std()) == pytest.approx(math.sqrt(2 / (20_000 + 11)), rel=0.03)
    assert float(bias) == 0


def test_frozen_heads_stay_frozen_and_nested_ones_are_found() -> None:
    net = nn.Sequential(nn.Flatten(), nn.ModuleDict({"inner": model()})["inner"])
    net[1][3].weight.requires_grad_(False)
    widen(net, "1.3", torch.Generator().manual_seed(0))
    assert not net[1][3].weight.requires_grad
    assert net[1][3].bias.requires_grad


def test_a_model_that_is_its_own_head_is_refused() -> None:
    with pytest.raises(InputError, match="Sequential"):
        widen(nn.Linear(3, 2), "", torch.Generator())
