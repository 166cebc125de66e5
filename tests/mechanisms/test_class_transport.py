"""The transport against a least-squares oracle over the records themselves, and its properties."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from efface.data import Data, Split, load
from efface.data.epoch import Epoch
from efface.mechanisms.class_transport import Moments, Move, nearest_mixture, refit, transport
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from tests.methods.conftest import small_cnn, small_mlp


@pytest.fixture(scope="module")
def digits_data() -> Data:
    return load("digits")


def test_the_nearest_mixture_of_a_triangle() -> None:
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]).double()
    for point, nearest in (
        ((0.5, 0.5), (0.5, 0.5)),
        ((2.0, 2.0), (1.0, 1.0)),
        ((1.0, -3.0), (1.0, 0.0)),
        ((5, -1), (2, 0)),
    ):
        found = nearest_mixture(torch.tensor(point).double(), corners)
        torch.testing.assert_close(found, torch.tensor(nearest).double(), atol=1e-5, rtol=0)


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return inputs of 40 kept records of 3 classes, what the original gave for them, and 15 to forget: 6 wide."""
    g = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(4, 6, generator=g).double()
    kept = centres[torch.arange(40) % 3] + torch.randn(40, 6, generator=g)
    return kept, kept + 0.1 * torch.randn(40, 6, generator=g), centres[3] + torch.randn(15, 6, generator=g)


def moments_of(kept: torch.Tensor, before: torch.Tensor, gone: torch.Tensor, constant: bool) -> Moments:
    def wide(h: torch.Tensor) -> torch.Tensor:
        return torch.cat([h, torch.ones(len(h), 1)], 1) if constant else h

    labels = torch.arange(40) % 3
    sums = torch.stack([*(kept[labels == c].sum(0) for c in range(3)), gone.sum(0)]).unsqueeze(1)
    second = torch.stack([wide(h).mT @ wide(h) for h in (kept, gone)]).unsqueeze(1)
    counts = torch.tensor([14.0, 13.0, 13.0, 15.0]).double()
    return Moments(second, (before.mT @ wide(kept)).unsqueeze(0), sums, counts)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("mixture", [0.0, 0.4, 1.0])
def test_refit_is_the_least_squares_solution_over_records(constant: bool, mixture: float) -> None:
    kept, before, gone = drawn()
    move, shares = Move(weight=2.5, mixture=mixture, within=0.8), torch.tensor([[0.5, 0.3, 0.2]]).double()
    found = refit(moments_of(kept, before, gone, constant), (3,), (0, 1, 2), shares, move)[0]

    means = torch.stack([kept[torch.arange(40) % 3 == c].mean(0) for c in range(3)])
    mean = gone.mean(0)
    goal = mixture * shares[0] @ means + (1 - mixture) * nearest_mixture(mean, means)
    span = torch.linalg.qr(means.mT).Q
    around = gone - mean
    target = gone - (mean - goal) - 0.8 * (around - around @ span @ span.mT)
    ridge = (1e-3 * kept.pow(2).sum() / 6).sqrt() * torch.eye(6).double()  # towards leaving the inputs as they are
    inputs, ends = torch.cat([kept, 2.5**0.5 * gone, ridge]), torch.cat([before, 2.5**0.5 * target, ridge])
    if constant:
        ones = torch.cat([torch.ones(40), 2.5**0.5 * torch.ones(15), torch.zeros(6)]).double()
        inputs = torch.cat([inputs, ones[:, None]], 1)
    expected = torch.linalg.lstsq(inputs, ends).solution.mT
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("constant", [True, False])
def test_inputs_that_no_kept_record_uses_are_refitted_and_those_of_no_record_are_left_alone(constant: bool) -> None:
    _, _, gone = drawn()
    nothing, shares = torch.zeros(40, 6).double(), torch.tensor([[0.5, 0.3, 0.2]]).double()
    found = refit(moments_of(nothing, nothing, gone, constant), (3,), (0, 1, 2), shares, Move(1, 1, 1))[0]
    assert (gone @ found[:, :6].mT).norm() < 0.1 * gone.norm()
    found = refit(moments_of(nothing, nothing, 0 * gone, constant), (3,), (0, 1, 2), shares, Move(1, 1, 1))[0]
    assert found.equal(torch.eye(6, 6 + constant).double())


def test_a_heavy_class_ends_where_it_is_sent_and_none_leaves_inputs_alone() -> None:
    kept, _, gone = drawn()
    shares = torch.tensor([[0.5, 0.3, 0.2]]).double()
    moments = moments_of(kept, kept, gone, True)
    none, heavy = (refit(moments, (3,), (0, 1, 2), shares, Move(w, 1.0))[0] for w in (0.0, 1e6))
    torch.testing.assert_close(none, torch.eye(7).double()[:6], atol=1e-6, rtol=0)
    means = moments.sums[:3, 0] / moments.counts[:3, None]
    moved = heavy @ torch.cat([gone.mean(0), torch.ones(1)])
    torch.testing.assert_close(moved, shares[0] @ means, atol=1e-3, rtol=0)


def test_several_classes_are_moved_at_once_in_any_order() -> None:
    kept, before, gone = drawn()
    moments = moments_of(kept, before, gone, True)
    two = Moments(
        torch.cat([moments.second, 2 * moments.second[1:]]),
        moments.crossed,
        torch.cat([moments.sums, 2 * moments.sums[3:]]),
        torch.cat([moments.counts, 2 * moments.counts[3:]]),
    )
    turned = Moments(two.second[[0, 2, 1]], two.crossed, two.sums, two.counts)
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).double()
    first = refit(two, (3, 4), (0, 1, 2), shares, Move())
    torch.testing.assert_close(first, refit(turned, (4, 3), (0, 1, 2), shares[[1, 0]], Move()))


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_kept_answers_hardly_move_where_the_class_does(digits_data: Data, network: str) -> None:
    split = Split.of(digits_data, Request(classes=(0,)))
    with seeded(0):
        model = (small_mlp if network == "mlp" else small_cnn)().eval()
    moved, still = copy.deepcopy(model), copy.deepcopy(model)
    changed = transport(moved, split, Run(device="cpu"), Move(weight=3.0), 50, "the test")
    assert changed == [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1]
    assert transport(still, split, Run(device="cpu"), Move(weight=0.0), 50, "the test") == []
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), still.parameters(), strict=True))

    def shift(part: object) -> float:
        x, _ = next(part.take(range(100)).batches(Epoch(100)))  # type: ignore[attr-defined]
        with torch.no_grad():
            return float((moved(x) - model(x)).norm() / model(x).norm())

    assert shift(split.forget) > 1.5 * shift(split.retain)


def test_frozen_layers_stay(digits_data: Data) -> None:
    split = Split.of(digits_data, Request(classes=(0,)))
    with seeded(0):
        model = small_mlp().eval()
    model.get_parameter("fc1.weight").requires_grad_(False)
    assert transport(model, split, Run(device="cpu"), Move(), 50, "the test") == []


def test_of_every_layer_one_batch_alone_goes_through_what_comes_after(
    digits_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows that the layer is called once a sample; to ask the rest of the others would tell nothing."""
    split = Split.of(digits_data, Request(classes=(0,)))
    asked = []
    for size in (512, 16):
        with seeded(0):
            model = small_cnn().eval()
        calls: list[int] = []
        next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)).register_forward_hook(
            lambda *_, calls=calls: calls.append(1)
        )
        monkeypatch.setattr("efface.mechanisms.class_transport._READ", size)
        transport(model, split, Run(device="cpu"), Move(), 20, "the test")
        asked.append(len(calls))
    assert asked[0] == asked[1]
