"""ClassProjection on digits: it forgets, edits weights only, and refuses what it cannot do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.data import Data, Split
from efface.errors import InputError, UnsupportedRequestError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.methods.class_projection.class_projection import balanced
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe
from tests.methods.conftest import accuracy


def test_forgets_a_class_and_keeps_the_rest(trained: dict[str, Artifact], class_split: Split) -> None:
    """Measured on the CNN: forget accuracy 0.02, kept 0.97 of 0.98."""
    artifact, run = trained["cnn"], Run(device="cpu")
    result = apply(make("class-projection"), Case(artifact, class_split, run)).model
    assert accuracy(result, class_split.test_forget) < 0.15
    assert accuracy(result, class_split.test_retain) > accuracy(artifact.model, class_split.test_retain) - 0.05
    rows = run.history.of("class-projection")
    assert len(rows) == 25
    best = max(row["score"] for row in rows)
    assert f"score {best:.3f}" in run.notes[-1]


def test_weights_of_layers_move_biases_and_batch_norm_stay(trained: dict[str, Artifact], class_split: Split) -> None:
    settings = {"alpha_retain": 100, "alpha_forget": 30}
    result = apply(make("class-projection", settings), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    before = trained["cnn"].model.state_dict()
    moved = {name for name, value in result.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.weight", "4.weight", "9.weight"}


def test_two_classes_at_once(trained: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=[0, 4]))
    result = apply(make("class-projection"), Case(trained["cnn"], split, Run(device="cpu"))).model
    assert accuracy(result, split.test_forget) < 0.3
    assert accuracy(result, split.test_retain) > 0.8


def test_samples_are_balanced(class_split: Split) -> None:
    part = balanced(class_split.retain, class_split.retain_classes, 90, torch.Generator().manual_seed(0))
    assert torch.bincount(part.labels, minlength=10).tolist() == [0, *[10] * 9]
    everything = balanced(class_split.forget, (0,), 10_000, torch.Generator().manual_seed(0))
    assert len(everything) == len(class_split.forget)


def test_refusals_name_what_would_work(
    trained: dict[str, Artifact], class_split: Split, item_split: Split, digits_data: Data
) -> None:
    with pytest.raises(InputError, match="give both alpha_retain and alpha_forget"):
        apply(make("class-projection", {"alpha_retain": 100}), Case(trained["mlp"], class_split, Run(device="cpu")))
    with pytest.raises(UnsupportedRequestError, match=r"not items; methods that can: .*ssd"):
        apply(make("class-projection"), Case(trained["mlp"], item_split, Run(device="cpu")))

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(64, 10))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    artifact = given(Table(), Split.of(digits_data), Recipe(), Run(device="cpu"))
    with pytest.raises(InputError, match=r"no linear or convolutional layer.*ssd"):
        apply(make("class-projection"), Case(artifact, class_split, Run(device="cpu")))
