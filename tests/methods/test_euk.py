"""EU-k: scrub.md section 7, check 7, and exactness for the layers it retrains."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.euk import EUk
from efface.running.run import Run
from tests.methods.conftest import accuracy

INSIDE = {"4.weight", "5.weight", "5.bias", "9.weight", "9.bias"}


def test_check_7_block_and_head_differ_before_the_first_step(trained: dict[str, Artifact], class_split: Split) -> None:
    """No epochs: what differs is the initialisation, and all else is bit-identical."""
    made = apply(EUk(epochs=0), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    before, after = trained["cnn"].model.state_dict(), made.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert {k for k in changed if not k.startswith("5.running") and "tracked" not in k} == INSIDE
    assert torch.equal(after["5.weight"], torch.ones(16))
    assert torch.equal(after["5.running_mean"], torch.zeros(16))


def test_check_7_all_else_is_bit_identical_after_training(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(EUk(epochs=2), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    before, after = trained["cnn"].model.state_dict(), made.state_dict()
    outside = [k for k in before if k.split(".")[0] in {"0", "1"}]
    assert outside
    assert all(torch.equal(before[k], after[k]) for k in outside)


def test_does_not_depend_on_the_old_weights_of_the_block(trained: dict[str, Artifact], class_split: Split) -> None:
    """Exact unlearning of the last k layers: another model with the same frozen part gives the same result."""
    other = copy.deepcopy(trained["cnn"])
    with torch.no_grad():
        for module in (other.model[4], other.model[5], other.model[9]):
            for p in module.parameters():
                p.add_(1)
    first = apply(EUk(epochs=1), Case(trained["cnn"], class_split, Run(seed=4, device="cpu")))
    second = apply(EUk(epochs=1), Case(other, class_split, Run(seed=4, device="cpu")))
    assert first.record.weights_after == second.record.weights_after


def test_forgets_the_class(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(EUk(), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    assert accuracy(made, class_split.forget) == 0
    assert accuracy(made, class_split.test_retain) > 0.93


def test_a_layer_that_cannot_be_reset_is_refused_before_work(trained: dict[str, Artifact], class_split: Split) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(10, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    other = copy.deepcopy(trained["mlp"])
    other.model.append(Scale())
    with pytest.raises(InputError, match="reset_parameters"):
        apply(EUk(k=1), Case(other, class_split, Run(device="cpu")))
