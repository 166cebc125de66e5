"""CF-k: scrub.md section 7, check 7, and that what the frozen layers know stays."""

from __future__ import annotations

import pytest
import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.cfk import CFk
from efface.methods.fine_tune import FineTune
from efface.running.run import Run
from tests.methods.conftest import accuracy


@pytest.mark.parametrize(
    ("method", "moved"),
    [
        (CFk(k=1, epochs=2), {"9.weight", "9.bias"}),
        (CFk(k=2, epochs=2), {"4.weight", "5.weight", "5.bias", "9.weight", "9.bias"}),
        (CFk(k=1, epochs=2, include_head=False), {"4.weight", "5.weight", "5.bias"}),
    ],
    ids=["head", "two layers", "without head"],
)
def test_check_7_all_else_is_bit_identical(
    method: CFk, moved: set[str], trained: dict[str, Artifact], class_split: Split
) -> None:
    made = apply(method, Case(trained["cnn"], class_split, Run(device="cpu"))).model
    before, after = trained["cnn"].model.state_dict(), made.state_dict()
    buffers = {k for k, _ in made.named_buffers() if k.startswith("5.") and "5.weight" in moved}
    assert {k for k in before if not torch.equal(before[k], after[k])} == moved | buffers
    assert all(p.requires_grad for p in made.parameters())


def test_all_layers_is_fine_tuning(trained: dict[str, Artifact], class_split: Split) -> None:
    """Up to the order of the batches, so by accuracy: k = 3 of 3 layers trains everything."""
    made = apply(CFk(k=3, epochs=1), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    tuned = apply(FineTune(epochs=1), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    for a, b in zip(made.parameters(), tuned.parameters(), strict=True):
        assert not torch.equal(a, b)
    assert abs(accuracy(made, class_split.train) - accuracy(tuned, class_split.train)) < 0.02


def test_leaves_forget_error_near_zero_as_published(trained: dict[str, Artifact], class_split: Split) -> None:
    """scrub.md section 5: CF-k leaves forget error .03 where retraining has 100."""
    made = apply(CFk(), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    assert accuracy(made, class_split.forget) > 0.9


def test_more_layers_than_there_are_is_refused(trained: dict[str, Artifact], class_split: Split) -> None:
    with pytest.raises(InputError, match="retrain"):
        apply(CFk(k=4), Case(trained["cnn"], class_split, Run(device="cpu")))
