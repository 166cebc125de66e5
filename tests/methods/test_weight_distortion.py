"""Noise in every weight, then fine-tuning."""

from __future__ import annotations

import pytest

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.methods.applying import apply
from efface.methods.weight_distortion import WeightDistortion
from efface.running.run import Run
from tests.methods.conftest import accuracy


def test_noise_has_the_scale_of_each_tensor(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(WeightDistortion(sigma=0.5, epochs=0.0), Case(trained["mlp"], class_split, Run(device="cpu"))).model
    for name in ("fc1.weight", "fc2.weight"):
        before = trained["mlp"].model.get_parameter(name)
        noise = made.get_parameter(name) - before
        scale = float(noise.detach().std() / before.detach().square().mean().sqrt())
        assert scale == pytest.approx(0.5, rel=0.1)  # 640 draws or more: 3 % standard error


def test_no_noise_and_no_epochs_is_the_original(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(WeightDistortion(sigma=0.0, epochs=0.0), Case(trained["mlp"], class_split, Run(device="cpu")))
    assert made.record.weights_after == trained["mlp"].record.weights_after


def test_fine_tuning_brings_use_back(trained: dict[str, Artifact], class_split: Split) -> None:
    bare = apply(WeightDistortion(sigma=1.0, epochs=0.0), Case(trained["mlp"], class_split, Run(device="cpu"))).model
    made = apply(WeightDistortion(sigma=1.0, epochs=4.0), Case(trained["mlp"], class_split, Run(device="cpu"))).model
    assert accuracy(bare, class_split.test_retain) < 0.8
    assert accuracy(made, class_split.test_retain) > 0.9
