"""Directions and projections: project_distil.md section 5, against projections computed the obvious way."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from efface.mechanisms.class_directions import Directions, directions, take_out
from efface.mechanisms.class_means import LayerMeans, class_means, taps
from efface.running.seeding import seeded
from tests.mechanisms.classes import CLASSES, Block, batches, samples

RETAIN, FORGET = (0, 2, 4), (1, 3)


def test_check_1_retained_means_are_answered_as_before_and_forgotten_ones_are_not() -> None:
    with seeded(0):
        model = Block(width=16)
    x, y = samples(60)
    means = class_means(model, batches(x, y), range(CLASSES))
    found = directions(means, FORGET, RETAIN, ("head",))
    before = {t.name: model.get_parameter(t.parameter)[t.rows].detach().clone() for t in taps(model)}
    changed = take_out(model, found, dict.fromkeys(before, 1.0))
    assert set(changed) == set(before) - {"head"}
    for tap in taps(model):
        rows = model.get_parameter(tap.parameter)[tap.rows].detach()
        if tap.name not in changed:
            assert torch.equal(rows, before[tap.name])
            continue
        flat, old = rows.flatten(1), before[tap.name].flatten(1)
        for c in RETAIN:
            mean = means.of[tap.name][c, 0]
            assert (flat @ mean - old @ mean).norm() < 1e-5 * (old @ mean).norm()
        for c in FORGET:  # what is left of it is what the retained means span
            mean = means.of[tap.name][c, 0].double()
            kept = means.of[tap.name][list(RETAIN), 0].double()
            within = kept.T @ torch.linalg.lstsq(kept.T, mean).solution
            torch.testing.assert_close((flat @ mean.float()), (old @ within.float()), rtol=1e-3, atol=1e-4)


def test_channel_means_are_taken_out_at_every_place_of_the_kernel() -> None:
    with seeded(0):
        conv = nn.Conv2d(6, 7, 3, padding=1)
    means = LayerMeans(tuple(range(CLASSES)), {"": torch.randn(5, 1, 54, generator=torch.Generator().manual_seed(1))})
    model = nn.Sequential(conv)
    means = LayerMeans(means.classes, {"0": means.of[""]})
    found = directions(means, (1,), RETAIN, (), {"0": 9})
    channel = means.of["0"][:, 0].unflatten(-1, (6, 9)).mean(-1).double()
    kept = channel[list(RETAIN)]
    u = channel[1] - kept.T @ torch.linalg.lstsq(kept.T, channel[1]).solution
    u = u / u.norm()
    expected = conv.weight.double() - 0.7 * torch.einsum("ockl,c,d->odkl", conv.weight.double(), u, u)
    take_out(model, found, {"0": 0.7}, "channel")
    torch.testing.assert_close(conv.weight.double(), expected, rtol=1e-5, atol=1e-6)


def test_check_2_a_mean_in_the_retained_span_gives_no_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 1, 20, generator=generator)
    mean[1] = 0.3 * mean[0] - 2 * mean[4]
    found = directions(LayerMeans(tuple(range(5)), {"a": mean}), (1,), RETAIN)
    assert found.spanned == ("a",)
    assert not found.of


def test_what_is_left_by_noise_is_no_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 1, 20, generator=generator)
    within = 0.3 * mean[0] - 2 * mean[4]
    for share, found_there in ((1e-4, False), (1e-2, True)):
        mean[1] = within + share * within.norm() * F.normalize(torch.randn(1, 20, generator=generator))
        found = directions(LayerMeans(tuple(range(5)), {"a": mean}), (1,), RETAIN)
        assert ("a" in found.of) is found_there


def test_a_layer_no_wider_than_the_retained_classes_is_left_alone() -> None:
    mean = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(0))
    found = directions(LayerMeans(tuple(range(5)), {"a": mean}), (1,), RETAIN)
    assert found.narrow == ("a",)
    assert not found.of


def test_check_3_several_classes_are_one_joint_projection_in_any_order() -> None:
    with seeded(0):
        layer = nn.Linear(20, 6)
    mean = torch.randn(5, 1, 20, generator=torch.Generator().manual_seed(0))
    means = LayerMeans(tuple(range(5)), {"0": mean})
    results = []
    for order in (FORGET, FORGET[::-1]):
        model = nn.Sequential(nn.Linear(20, 6))
        model[0].load_state_dict(layer.state_dict())
        take_out(model, directions(means, order, RETAIN), {"0": 1.0})
        results.append(model[0].weight.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    kept, gone = mean[list(RETAIN), 0].double().numpy(), mean[list(FORGET), 0].double().numpy()
    left = gone - gone @ np.linalg.pinv(kept) @ kept
    joint = np.eye(20) - np.linalg.pinv(left) @ left
    expected = torch.from_numpy(layer.weight.detach().double().numpy() @ joint).float()
    torch.testing.assert_close(results[0], expected, rtol=1e-4, atol=1e-5)


def test_strength_zero_and_frozen_weights_stay_bit_for_bit() -> None:
    model = nn.Sequential(nn.Linear(20, 6), nn.Linear(20, 6))
    model[1].weight.requires_grad_(False)
    before = [layer.weight.detach().clone() for layer in model]
    u = Directions({name: torch.eye(20, dtype=torch.float64)[None, :, :1] for name in ("0", "1")}, (), ())
    assert take_out(model, u, {"0": 0.0, "1": 1.0}) == []
    assert all(torch.equal(layer.weight, b) for layer, b in zip(model, before, strict=True))
