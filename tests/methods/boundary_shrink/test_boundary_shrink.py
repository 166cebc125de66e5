"""Boundary Shrink: the checks of its sheet by number (the attack's own are in tests/test_attack.py)."""

from __future__ import annotations

import copy

import pytest
import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.boundary_shrink.attack import curvature
from efface.methods.boundary_shrink.boundary_shrink import BoundaryShrink
from efface.models.batch_norm import batch_norms
from efface.models.predictions import accuracy_of
from efface.request import Request
from efface.running.run import Run


def run() -> Run:
    return Run(seed=1, device="cpu")


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_check_2_no_target_is_forgotten_unless_the_official_labels_are_asked_for(
    trained: dict[str, Artifact], digits_data: Data, name: str
) -> None:
    split, model, here = Split.of(digits_data, Request.of(classes=[3, 8])), trained[name].model, run()
    # A bound so small that most attacks fail.
    ours, _ = BoundaryShrink(bound=0.01).neighbours(model, split, here)
    assert not torch.isin(ours, torch.tensor([3, 8])).any()
    theirs, _ = BoundaryShrink(bound=0.01, avoid_true=False).neighbours(model, split, here)
    success = here.history.of("boundary-shrink/attack")[-1]["success"]
    assert int((theirs == split.forget.labels).sum()) == round(len(split.forget) * (1 - success))
    assert success < 0.5


def test_check_3_targets_computed_once_equal_targets_computed_again(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    method, here = BoundaryShrink(lr=1e-3), run()
    first, _ = method.neighbours(trained["cnn"].model, class_split, here)
    made = apply(method, Case(trained["cnn"], class_split, here))
    again, _ = method.neighbours(trained["cnn"].model, class_split, run())
    assert torch.equal(first, again)
    # The answers that were trained: the model now gives most images their targets.
    x, _ = class_split.forget.tensors()
    with torch.no_grad():
        assert float((made.model(x).argmax(1) == first).float().mean()) > 0.9


def test_check_5_without_a_learning_rate_only_statistics_move_and_not_if_frozen(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    old = trained["cnn"].model.state_dict()
    frozen = apply(
        BoundaryShrink(lr=0, freeze_batch_norm=True), Case(trained["cnn"], class_split, run())
    ).model.state_dict()
    assert all(torch.equal(v, old[k]) for k, v in frozen.items())
    moved = apply(BoundaryShrink(lr=0), Case(trained["cnn"], class_split, run())).model
    buffers = dict(moved.named_buffers())
    assert all(torch.equal(v, old[k]) for k, v in moved.named_parameters())
    assert all(not torch.equal(v, old[k]) for k, v in buffers.items())
    # Trap 7: the drift alone forgets a little (0.975 to 0.95 here), and must not be taken for the method.
    assert accuracy_of(moved, class_split.forget) < accuracy_of(trained["cnn"].model, class_split.forget)


def test_check_6_no_retained_data_is_read(trained: dict[str, Artifact], class_split: Split) -> None:
    assert BoundaryShrink.needs.reads == ("forget",)
    apply(BoundaryShrink(epochs=1), Case(trained["mlp"], class_split.only(["forget"], "boundary-shrink"), run()))


def test_check_7_weights_of_argmax_targets_stay_below_their_bound() -> None:
    answer = 5 * torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
    w = BoundaryShrink(weighted=True).weight(answer, answer.argmax(1))
    assert float(w.min()) > 0
    assert float(w.max()) <= 0.23  # 3 sigmoid(5 (0 - 0.5)) = 0.2276 at a tie
    tie = torch.tensor([[1.0, 1.0, -9.0]])
    assert float(BoundaryShrink().weight(tie, torch.tensor([0]))[0]) == pytest.approx(0.2276, abs=1e-4)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_check_8_forgets_the_class_and_keeps_the_rest(
    trained: dict[str, Artifact], class_split: Split, name: str
) -> None:
    made = apply(BoundaryShrink(), Case(trained[name], class_split, run()))
    assert accuracy_of(made.model, class_split.test_forget) < 0.15
    kept = accuracy_of(made.model, class_split.test_retain)
    assert kept > accuracy_of(trained[name].model, class_split.test_retain) - 0.15


def test_check_8_both_attacks_mostly_name_the_same_neighbour(trained: dict[str, Artifact], class_split: Split) -> None:
    model = trained["cnn"].model
    targets = [BoundaryShrink(attack=a).neighbours(model, class_split, run())[0] for a in ("fgsm", "pgd")]
    assert float((targets[0] == targets[1]).float().mean()) > 0.6


@pytest.mark.parametrize("settings", [{"weighted": True}, {"curvature_weight": 0.7}, {"attack": "pgd"}])
def test_the_options_change_the_result_and_still_forget(
    trained: dict[str, Artifact], class_split: Split, settings: dict[str, object]
) -> None:
    plain = apply(BoundaryShrink(lr=1e-3), Case(trained["mlp"], class_split, run())).model
    made = apply(BoundaryShrink(lr=1e-3, **settings), Case(trained["mlp"], class_split, run())).model
    assert not torch.equal(next(plain.parameters()), next(made.parameters()))
    assert accuracy_of(made, class_split.test_forget) < 0.15


def test_the_curvature_term_is_the_official_one_divided_by_the_batch(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    """Three steps on all forget images, written out: CE + 0.7 ||kappa_f0 - kappa_f||_2 / len(x)."""
    method = BoundaryShrink(lr=0.05, momentum=0, epochs=3, batch_size=1000, min_steps=0, curvature_weight=0.7)
    made = apply(method, Case(trained["mlp"], class_split, run())).model
    original, model = copy.deepcopy(trained["mlp"].model).eval(), copy.deepcopy(trained["mlp"].model).train()
    x, y = class_split.forget.tensors()
    targets, _ = method.neighbours(original, class_split, run())
    before = curvature(original, x, y, method.curvature_distance).detach()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        now = curvature(model, x, y, method.curvature_distance, differentiable=True)
        loss = torch.nn.functional.cross_entropy(model(x), targets) + 0.7 * (before - now).norm() / len(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for a, b in zip(made.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_says_when_the_class_was_left_in_place_and_where_pixels_lie(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    here = run()
    apply(BoundaryShrink(lr=1e-7), Case(trained["mlp"], class_split, here))
    assert any("raise lr" in note for note in here.notes)
    assert any("0 to 1" in note for note in here.notes)


def test_one_image_and_batch_norm_are_refused_with_a_way_out(trained: dict[str, Artifact], digits_data: Data) -> None:
    labels = digits_data.train.labels
    keep = torch.cat([(labels == 0).nonzero()[:1], (labels > 0).nonzero()]).flatten().numpy()
    train = type(digits_data.train)(digits_data.train.inputs[keep], labels[keep])
    split = Split.of(Data("one zero", train, digits_data.test, digits_data.classes), Request.of(classes=[0]))
    with pytest.raises(InputError, match="logit-mask"):
        apply(BoundaryShrink(), Case(trained["cnn"], split, run()))
    apply(BoundaryShrink(freeze_batch_norm=True), Case(trained["cnn"], split, run()))
    assert batch_norms(trained["cnn"].model)
