"""Shrink and perturb, and head rows drawn anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.mechanisms.shrink_and_perturb import (
    by_depth,
    fresh_weights,
    redraw_rows,
    require_reset,
    shrink_and_perturb,
)
from efface.models.reset import reset
from efface.running.run import Run
from tests.methods.conftest import small_cnn, small_mlp


def test_by_depth_is_linear_and_constant_without_an_end() -> None:
    assert by_depth(["a", "b", "c"], 0.2, 0.8) == pytest.approx({"a": 0.2, "b": 0.5, "c": 0.8})
    assert by_depth(["a", "b"], 0.3, None) == {"a": 0.3, "b": 0.3}
    assert by_depth(["a"], 0.3, 0.9) == {"a": 0.3}


def test_alpha_one_is_the_fresh_network_and_alpha_zero_the_old_one_bit_for_bit() -> None:
    run = Run(seed=3, device="cpu")
    fresh = fresh_weights(small_cnn(), run, "noise")
    twin = reset(small_cnn(), run.number("noise"))
    for seed in (0, 1):
        model = small_cnn(seed)
        shrink_and_perturb(model, fresh, 1.0)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
    model = small_cnn()
    shrink_and_perturb(model, fresh, 0.0)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), small_cnn().parameters(), strict=True))


def test_mixes_by_the_formula_and_leaves_frozen_parameters() -> None:
    model, old = small_mlp(), small_mlp()
    names = [name for name, _ in model.named_parameters()]
    model.get_parameter(names[0]).requires_grad_(False)
    fresh = {name: torch.full_like(p, 2.0) for name, p in model.named_parameters()}
    shrink_and_perturb(model, fresh, 0.25, 0.75, beta=0.5)
    assert torch.equal(model.get_parameter(names[0]), old.get_parameter(names[0]))
    torch.testing.assert_close(model.get_parameter(names[1]), 0.75 * old.get_parameter(names[1]) + 0.25)
    torch.testing.assert_close(model.get_parameter(names[-1]), 0.25 * old.get_parameter(names[-1]) + 0.75)


def test_check_6_xavier_noise_is_zero_for_vectors_and_bounded_for_matrices() -> None:
    """Undo.md check 6: the official variant only shrinks biases and norm scales."""
    drawn = fresh_weights(small_cnn(), Run(device="cpu"), "noise", "xavier")
    for name, p in small_cnn().named_parameters():
        if p.ndim == 1:
            assert not drawn[name].any()
        else:
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(p)
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert 0.8 * bound < drawn[name].abs().max() <= bound


def test_new_rows_have_the_wanted_logit_at_the_mean_and_a_bias_that_is_not_lowered() -> None:
    model, old = small_mlp(), small_mlp()
    fresh = fresh_weights(model, Run(device="cpu"), "rows")
    mean = torch.rand(64, generator=torch.Generator().manual_seed(0))
    redraw_rows(model, fresh, [3, 8], (1, 8, 8), mean, -9.0)
    head, before = model.get_parameter("fc2.weight"), old.get_parameter("fc2.weight")
    bias = model.get_parameter("fc2.bias")
    torch.testing.assert_close(head[[3, 8]] @ mean + bias[[3, 8]], torch.tensor([-9.0, -9.0]))
    assert torch.equal(bias[[3, 8]], fresh["fc2.bias"][[3, 8]])
    others = [c for c in range(10) if c not in (3, 8)]
    assert torch.equal(head[others], before[others])
    # along any direction that the retained classes do not use, the row is the fresh one
    across = torch.linalg.qr(torch.stack([mean, fresh["fc2.weight"][3]], 1))[0][:, 1]
    torch.testing.assert_close(head[3] @ across, fresh["fc2.weight"][3] @ across, rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_initialised_anew_is_refused_with_a_way_out() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

    with pytest.raises(InputError, match=r"undo draws fresh weights.*reset_parameters.*scrub"):
        require_reset(nn.Sequential(nn.Linear(3, 3), Scale()), "undo")
