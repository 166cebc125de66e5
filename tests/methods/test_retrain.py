"""Retraining: baselines.md section 7, check 1, and that nothing of the original is left."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Split
from efface.methods.applying import apply
from efface.methods.retrain import Retrain
from efface.models.reset import reset
from efface.running.run import Run
from efface.training.loop import fit
from tests.methods.conftest import accuracy


class Recorder(ArraySamples):
    """Remembers every position that was read."""

    def __init__(self, source: ArraySamples) -> None:
        super().__init__(source.inputs, source.labels)
        self.reads: list[Tensor] = []

    def read(self, batches: Any, **options: Any) -> Iterator[Tensor]:
        self.reads.extend(batches)
        return super().read(batches, **options)


def test_check_1_reads_exactly_the_retained_samples_in_ceil_batches(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    import dataclasses

    recorder = Recorder(class_split.data.train)
    split = dataclasses.replace(class_split, data=dataclasses.replace(class_split.data, train=recorder))
    apply(Retrain(), Case(trained["mlp"], split, Run(seed=1, device="cpu")))
    recipe = trained["mlp"].record.recipe
    per_epoch = math.ceil(len(split.retain) / recipe.batch_size)
    assert len(recorder.reads) == recipe.epochs * per_epoch
    for epoch in range(int(recipe.epochs)):
        seen = torch.cat(recorder.reads[epoch * per_epoch : (epoch + 1) * per_epoch]).sort().values
        assert seen.tolist() == split.retain.indices.tolist()


def test_equals_training_a_new_network_and_forgets_the_class(trained: dict[str, Artifact], class_split: Split) -> None:
    run = Run(seed=7, device="cpu")
    made = apply(Retrain(), Case(trained["cnn"], class_split, run))
    fresh = reset(trained["cnn"].model, Run(seed=7).number("retrain/initial weights"))
    expected = fit(fresh, class_split.retain, trained["cnn"].record.recipe, Run(seed=7, device="cpu"), stage="retrain")
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), expected.parameters(), strict=True))
    assert accuracy(made.model, class_split.test_forget) == 0
    assert accuracy(made.model, class_split.test_retain) > 0.9


def test_does_not_depend_on_the_original_weights(trained: dict[str, Artifact], class_split: Split) -> None:
    other = copy.deepcopy(trained["mlp"])
    with torch.no_grad():
        for p in other.model.parameters():
            p.mul_(-3)
    first = apply(Retrain(), Case(trained["mlp"], class_split, Run(seed=1, device="cpu")))
    second = apply(Retrain(), Case(other, class_split, Run(seed=1, device="cpu")))
    assert first.record.weights_after == second.record.weights_after


def test_what_the_originals_training_left_behind_is_not_kept(trained: dict[str, Artifact], class_split: Split) -> None:
    prepared = copy.deepcopy(trained["mlp"])
    prepared.memory = {"codes": torch.zeros(10, 1, 8, 8)}
    assert apply(Retrain(), Case(prepared, class_split, Run(seed=1, device="cpu"))).memory == {}


def test_a_training_that_went_on_is_done_again_from_its_start(trained: dict[str, Artifact], class_split: Split) -> None:
    """By the last recipe alone, here a moment of a small rate, the reference would be an untrained model."""
    plain = trained["mlp"]
    last = plain.record.recipe.but(lr=1e-4, epochs=0.2)
    data = class_split.data
    gone_on = efface.train(plain, data, recipe=last, device="cpu", progress=False)
    made = apply(Retrain(), Case(gone_on, class_split, Run(seed=7, device="cpu")))
    expected = reset(plain.model, Run(seed=7).number("retrain/initial weights"))
    for recipe in (plain.record.recipe, last):
        expected = fit(expected, class_split.retain, recipe, Run(seed=7, device="cpu"), stage="retrain")
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), expected.parameters(), strict=True))
    assert accuracy(made.model, class_split.test_retain) > 0.8
    again = apply(Retrain(), Case(made, class_split, Run(seed=8, device="cpu")))  # of what was retrained: both, too
    assert accuracy(again.model, class_split.test_retain) > 0.8
