"""Zero-shot forgetting by noise: nothing real is read, and both kinds of noise do what they are made for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.mechanisms.class_noise import class_noise
from efface.methods.applying import apply
from efface.methods.zero_shot_noise import ZeroShotNoise
from efface.models.batch_norm import batch_norms
from efface.models.predictions import accuracy_of
from efface.request import Request
from efface.running.run import Run


def run() -> Run:
    return Run(seed=1, device="cpu")


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_kept_noise_is_taken_for_its_class_and_forget_noise_is_not(trained: dict[str, Artifact], name: str) -> None:
    model = trained[name].model
    aims = ["maximise", *["minimise"] * 9]
    noise = class_noise(model, range(10), aims, (1, 8, 8), run(), batch=16)
    with torch.no_grad():
        p = model(noise.flatten(0, 1)).softmax(1).reshape(10, 16, 10).mean(1)
    assert float(p[0, 0]) < 1e-3
    assert float(p[range(1, 10), range(1, 10)].min()) > 0.9


def test_check_6_no_data_is_declared_or_read(trained: dict[str, Artifact], class_split: Split) -> None:
    assert ZeroShotNoise.needs.reads == ()
    nothing = class_split.only((), "nobody")
    made = apply(ZeroShotNoise(noise_batch=32), Case(trained["mlp"], nothing, run()))
    assert made.record.weights_after != trained["mlp"].record.weights_after


def test_forgets_the_class_and_keeps_most_of_the_rest(trained: dict[str, Artifact], class_split: Split) -> None:
    # Settings for this model: the defaults, UNSIR's, are too weak here, as the docstring says.
    made = apply(ZeroShotNoise(repair_epochs=3, repair_lr=0.05), Case(trained["mlp"], class_split, run()))
    assert accuracy_of(made.model, class_split.test_forget) < 0.1
    assert accuracy_of(made.model, class_split.test_retain) > 0.8


def test_repair_is_what_brings_the_kept_classes_back(trained: dict[str, Artifact], class_split: Split) -> None:
    kept = [
        accuracy_of(
            apply(ZeroShotNoise(repair_epochs=e, repair_lr=0.05), Case(trained["mlp"], class_split, run())).model,
            class_split.test_retain,
        )
        for e in (0, 3)
    ]
    assert kept[1] > kept[0] + 0.1


def test_statistics_move_only_when_asked(trained: dict[str, Artifact], class_split: Split) -> None:
    old = batch_norms(trained["cnn"].model)[0].running_mean
    for freeze in (True, False):
        method = ZeroShotNoise(noise_batch=8, noise_steps=2, batch_size=40, freeze_batch_norm=freeze)
        new = batch_norms(apply(method, Case(trained["cnn"], class_split, run())).model)[0].running_mean
        assert torch.equal(old, new) == freeze


def test_without_learning_rates_nothing_moves(trained: dict[str, Artifact], class_split: Split) -> None:
    method = ZeroShotNoise(noise_batch=8, noise_steps=2, impair_lr=0, repair_lr=0)
    made = apply(method, Case(trained["cnn"], class_split, run()))
    old = trained["cnn"].model.state_dict()
    assert all(torch.equal(v, old[k]) for k, v in made.model.state_dict().items())


def test_stages_train_on_the_noise_of_their_classes(trained: dict[str, Artifact], digits_data: Data) -> None:
    """One impair step by hand, over all classes' noise with its own labels."""
    split = Split.of(digits_data, Request.of(classes=[2, 7]))
    method = ZeroShotNoise(noise_batch=4, noise_steps=0, impair_lr=1e-3, repair_epochs=0)
    made = apply(method, Case(trained["mlp"], split, run())).model
    slow = run().copied(trained["mlp"].model)
    images = torch.randn(10, 4, 1, 8, 8, generator=run().generator("zero-shot/noise")).flatten(0, 1)
    labels = torch.tensor([2, 7, 0, 1, 3, 4, 5, 6, 8, 9]).repeat_interleave(4)
    adam = torch.optim.Adam(slow.parameters(), lr=1e-3)
    F.cross_entropy(slow(images), labels).backward()
    adam.step()
    for a, b in zip(slow.parameters(), made.parameters(), strict=True):
        # Adam's first step is lr times the gradient's sign: rounding can flip it only where the gradient vanishes.
        assert float(((a - b).abs() > 1e-5).float().mean()) < 0.01
