"""LFSSD: no label, no loss; the absolute value of batch means."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.data import Data, Split
from efface.errors import InputError
from efface.mechanisms.dampening import loss_free
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.running.run import Run
from efface.training.recipe import Recipe
from tests.methods.conftest import accuracy


def test_8_labels_do_not_matter(trained: dict[str, Artifact], class_split: Split) -> None:
    model = copy.deepcopy(trained["cnn"].model)
    x, y = class_split.retain.take(range(96)).tensors()
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    first = loss_free(model, zip(x.split(32), y.split(32), strict=True))
    second = loss_free(model, zip(x.split(32), shuffled.split(32), strict=True))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_importance_of_a_linear_model_by_hand() -> None:
    """Z = Wx: the gradient of mean ‖z‖² is 2 W mean(x xᵀ), batch by batch."""
    draw = torch.Generator().manual_seed(1)
    model = nn.Linear(4, 3, bias=False).double().eval()
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 4, generator=draw, dtype=torch.float64))
    x = torch.randn(24, 4, generator=draw, dtype=torch.float64)
    for size in (1, 6, 24):
        expected = torch.stack([(2 * model.weight @ (b.T @ b) / len(b)).abs() for b in x.split(size)]).mean(0)
        batches = [(b, torch.zeros(len(b), dtype=torch.int64)) for b in x.split(size)]
        # 1e-5: the squared norm is taken in float32
        torch.testing.assert_close(loss_free(model, batches)["weight"], expected.detach(), rtol=1e-5, atol=1e-5)


def test_trap_12_larger_batches_cancel(trained: dict[str, Artifact], class_split: Split) -> None:
    model = copy.deepcopy(trained["cnn"].model)
    x, y = class_split.retain.take(range(128)).tensors()
    sums = []
    for size in (1, 16, 128):
        found = loss_free(model, zip(x.split(size), y.split(size), strict=True))
        sums.append(sum(float(v.sum()) for v in found.values()))
    assert sums[0] > sums[1] > sums[2]


def test_a_class_goes_and_the_rest_stays(trained: dict[str, Artifact], class_split: Split) -> None:
    """Measured with the defaults: forget accuracy 0, kept 0.983 as before."""
    result = apply(make("lfssd"), Case(trained["cnn"], class_split, Run(device="cpu")))
    assert accuracy(result.model, class_split.test_forget) < 0.05
    before = accuracy(trained["cnn"].model, class_split.test_retain)
    assert accuracy(result.model, class_split.test_retain) > before - 0.02


def test_the_cap_holds_for_batches_of_one(trained: dict[str, Artifact], class_split: Split) -> None:
    with pytest.raises(InputError, match=r"lfssd: alpha = 50 over all data can select nothing"):
        apply(
            make("lfssd", {"alpha": 50, "batch_size": 1, "denominator": "full"}),
            Case(trained["mlp"], class_split, Run(device="cpu")),
        )


def test_works_where_forget_data_is_saturated(digits_data: Data, class_split: Split) -> None:
    """Logits so far apart that the cross-entropy has no gradient: SSD refuses, LFSSD does not."""

    class Certain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.flatten(1)) + torch.eye(10)[0] * 1e4

    artifact = given(Certain(), Split.of(digits_data), Recipe(), Run(device="cpu"))
    with pytest.raises(InputError, match="lfssd"):
        apply(make("ssd"), Case(artifact, class_split, Run(device="cpu")))
    run = Run(device="cpu")
    apply(make("lfssd", {"alpha": 1}), Case(artifact, class_split, run))
    assert run.history.of("lfssd")[0]["selected"] > 0
