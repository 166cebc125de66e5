"""Gradient ascent: loss, first step against autograd, bound and stop (baselines.md sections 2 and 6)."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.methods.applying import apply
from efface.methods.gradient_ascent import GradientAscent
from efface.running.run import Run
from tests.methods.conftest import accuracy


def test_one_unbounded_step_is_a_step_up_the_loss(trained: dict[str, Artifact], item_split: Split) -> None:
    """theta <- theta + lr grad CE - lr wd theta: at the first step momentum has no say."""
    artifact = trained["mlp"]
    method = GradientAscent(lr=0.1, epochs=1, bound=None, stop=False)
    assert len(item_split.forget) <= artifact.record.recipe.batch_size  # one step per pass
    made = apply(method, Case(artifact, item_split, Run(device="cpu"))).model
    x, y = item_split.forget.tensors()
    parameters = list(artifact.model.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(artifact.model(x), y), parameters)
    decay = artifact.record.recipe.weight_decay
    for p, g, after in zip(parameters, gradients, made.parameters(), strict=True):
        # 1e-7: one rounding of float32 at weights of order one; the batch is shuffled, so sums differ in order.
        torch.testing.assert_close(after, p + 0.1 * g - 0.1 * decay * p, atol=1e-7, rtol=1e-5)


def test_samples_past_the_bound_give_no_gradient() -> None:
    z = torch.tensor([[0.0, 9.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    loss = GradientAscent(bound=1.5).loss(torch.nn.Identity(), z, torch.tensor([0, 0]))
    loss.backward()
    assert z.grad is not None
    assert (z.grad[0] == 0).all()
    assert (z.grad[1] != 0).any()
    expected = -(1.5 * math.log(3) + float(F.cross_entropy(z[1:].detach(), torch.tensor([0])))) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_stops_once_the_class_is_at_chance(network: str, trained: dict[str, Artifact], class_split: Split) -> None:
    run = Run(seed=1, device="cpu")
    made = apply(GradientAscent(), Case(trained[network], class_split, run)).model
    rows = run.history.of("gradient-ascent/accuracy")
    assert accuracy(made, class_split.forget) == rows[-1]["forget"] <= 0.1
    assert all(row["forget"] > 0.1 for row in rows[:-1])
    assert any("stopped" in note for note in run.notes)
    assert accuracy(made, class_split.test_retain) > 0.8  # without the stop it falls to the bound's mercy


def test_without_stop_it_runs_all_passes_and_ruins_more(trained: dict[str, Artifact], class_split: Split) -> None:
    stopped = apply(GradientAscent(), Case(trained["cnn"], class_split, Run(seed=1, device="cpu"))).model
    run = Run(seed=1, device="cpu")
    driven = apply(GradientAscent(stop=False, bound=None), Case(trained["cnn"], class_split, run)).model
    assert run.history.of("gradient-ascent")[-1]["epoch"] == 15
    assert accuracy(driven, class_split.test_retain) < accuracy(stopped, class_split.test_retain)


def test_trap_5_batch_norm_statistics_move_in_train_mode_only(trained: dict[str, Artifact], class_split: Split) -> None:
    before = dict(trained["cnn"].model.named_buffers())
    for mode, moves in (("eval", False), ("train", True)):
        made = apply(
            GradientAscent(epochs=1, batch_norm=mode), Case(trained["cnn"], class_split, Run(device="cpu"))
        ).model
        same = all(torch.equal(v, before[k]) for k, v in made.named_buffers())
        assert same != moves


def test_rate_zero_changes_nothing(trained: dict[str, Artifact], item_split: Split) -> None:
    made = apply(GradientAscent(lr=0, epochs=2), Case(trained["cnn"], item_split, Run(device="cpu")))
    assert made.record.weights_after == made.record.weights_before
