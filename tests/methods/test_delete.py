"""DELETE: recent.md section H, its checks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Augment, Data, Split
from efface.data.epoch import Epoch
from efface.methods.applying import apply, prepare
from efface.methods.delete import DELETE, masked_softmax
from efface.methods.logit_mask import LogitMask
from efface.models.head import head
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import RECIPE, accuracy, logits, small_cnn


def test_target_is_a_distribution_without_the_masked_classes() -> None:
    z = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)) * 20
    masked = torch.zeros(50, 10, dtype=torch.bool)
    masked[:, [0, 4]] = True
    q = masked_softmax(z, masked)
    assert (q[masked] == 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(50))
    p = F.softmax(z.double(), 1)
    expected = p.masked_fill(masked, 0) / p.masked_fill(masked, 0).sum(1, keepdim=True)
    torch.testing.assert_close(q.double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("augment", [Augment(), Augment(crop=1)], ids=["cached targets", "augmented"])
def test_loss_starts_at_minus_log_of_one_minus_p(augment: Augment, digits_data: Data, class_split: Split) -> None:
    """At the original weights the retention part is zero; measured with rate zero, on the loss in the history."""
    recipe = RECIPE.but(epochs=1, augment=augment)
    artifact = prepare(None, small_cnn(), Split.of(digits_data), recipe, Run(device="cpu"))
    run = Run(device="cpu")
    apply(DELETE(epochs=1, lr=0, batch_norm="eval"), Case(artifact, class_split, run))
    losses = []
    batches = class_split.forget.batches(
        Epoch(recipe.batch_size, generator=Run().generator("delete/epoch 0"), augment=augment)
    )
    with torch.no_grad():
        for x, _ in batches:
            losses.append(-torch.log1p(-F.softmax(artifact.model(x).double(), 1)[:, 0]).mean())
    assert run.history.of("delete")[0]["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_head_mask_has_loss_zero_and_zero_gradient(trained: dict[str, Artifact], class_split: Split) -> None:
    masked = apply(LogitMask(), Case(trained["mlp"], class_split, Run(device="cpu")))
    run = Run(device="cpu")
    made = apply(DELETE(epochs=1, mask="label"), Case(masked, class_split, run))
    assert abs(run.history.of("delete")[0]["loss"]) < 1e-6
    moved = [(a - b).abs().max() for a, b in zip(made.model.parameters(), masked.model.parameters(), strict=True)]
    assert max(moved) < 1e-6


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("classes", [(0,), (3, 8)], ids=str)
def test_forgets_without_retained_data(
    network: str, classes: tuple[int, ...], trained: dict[str, Artifact], digits_data: Data
) -> None:
    split = Split.of(digits_data, Request.of(classes=classes))
    made = apply(DELETE(), Case(trained[network], split, Run(seed=1, device="cpu"))).model
    assert accuracy(made, split.test_forget) < 0.05
    assert accuracy(made, split.test_retain) > accuracy(trained[network].model, split.test_retain) - 0.03


def test_imitates_the_masked_original_more_and_more(trained: dict[str, Artifact], class_split: Split) -> None:
    run = Run(seed=1, device="cpu")
    made = apply(DELETE(), Case(trained["mlp"], class_split, run)).model
    rows = run.history.of("delete")
    assert rows[-1]["loss"] < rows[0]["loss"] / 10
    old = F.softmax(logits(trained["mlp"].model, class_split.forget), 1)
    old[:, 0] = 0
    runner_up = old.argmax(1)
    assert float((logits(made, class_split.forget).argmax(1) == runner_up).float().mean()) > 0.8


def test_of_several_classes_all_are_masked(trained: dict[str, Artifact], digits_data: Data) -> None:
    """With the label alone masked, some of class 3 goes to class 8 and of 8 to 3: both forgotten."""
    split = Split.of(digits_data, Request.of(classes=[1, 2, 3, 4, 5, 6, 7, 8]))
    mass = {}
    for mask in ("forgotten", "label"):
        made = apply(DELETE(mask=mask), Case(trained["mlp"], split, Run(seed=1, device="cpu"))).model
        mass[mask] = float(F.softmax(logits(made, split.forget), 1)[:, 1:9].sum(1).mean())
    assert mass["forgotten"] < mass["label"] / 2


def test_freeze_head_leaves_the_head_and_moves_features(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(DELETE(freeze_head=True), Case(trained["mlp"], class_split, Run(seed=1, device="cpu"))).model
    name, layer = head(trained["mlp"].model, torch.zeros(2, 1, 8, 8))
    after = made.get_submodule(name)
    assert torch.equal(after.weight, layer.weight)
    assert torch.equal(after.bias, layer.bias)
    assert accuracy(made, class_split.test_forget) < 0.1
