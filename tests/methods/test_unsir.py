"""UNSIR: the checks of its sheet by number."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.errors import UnsupportedRequestError
from efface.mechanisms.class_noise import class_noise
from efface.methods.applying import apply
from efface.methods.unsir import UNSIR
from efface.models.batch_norm import batch_norms
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import accuracy


def run() -> Run:
    return Run(seed=1, device="cpu")


def test_check_2_noise_is_farther_from_the_class_than_random_images_of_its_size(trained: dict[str, Artifact]) -> None:
    model = trained["cnn"].model
    noise = class_noise(model, [0], ["maximise"], (1, 8, 8), run(), batch=32)[0]
    random = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0))
    random *= (noise.flatten(1).norm(dim=1) / random.flatten(1).norm(dim=1))[:, None, None, None]
    label = torch.zeros(32, dtype=torch.int64)
    with torch.no_grad():
        assert F.cross_entropy(model(noise), label) > F.cross_entropy(model(random), label)
        assert float(model(noise).softmax(1)[:, 0].mean()) < 1e-3


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_check_5_forgets_the_class_and_keeps_the_rest(
    trained: dict[str, Artifact], class_split: Split, name: str
) -> None:
    forgotten = apply(UNSIR(), Case(trained[name], class_split, run())).model
    assert accuracy(forgotten, class_split.test_forget) < 0.05
    before = accuracy(trained[name].model, class_split.test_retain)
    assert accuracy(forgotten, class_split.test_retain) > before - 0.10


def test_check_6_without_learning_rates_only_statistics_move(trained: dict[str, Artifact], class_split: Split) -> None:
    old = trained["cnn"].model
    new = apply(UNSIR(impair_lr=0, repair_lr=0), Case(trained["cnn"], class_split, run())).model
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    assert not torch.equal(batch_norms(old)[0].running_mean, batch_norms(new)[0].running_mean)


@pytest.mark.parametrize(("distinct", "copies"), [(3, 20), (16, 2)])
def test_checks_4_7_and_8_noise_samples_are_counted(
    trained: dict[str, Artifact], digits_data: Data, distinct: int, copies: int
) -> None:
    sizes = []
    for classes in ([0], [0, 3]):
        split = Split.of(digits_data, Request.of(classes=classes))
        here = run()
        method = UNSIR(noise_batch=16, noise_steps=1, distinct_noise=distinct, noise_copies=copies, retain_per_class=20)
        apply(method, Case(trained["mlp"], split, here))
        noise, kept = len(classes) * distinct * copies, 20 * (10 - len(classes))
        assert f"{noise} noise samples among {noise + kept}" in here.notes[0]
        assert f"{kept} retained samples read" in here.notes[0]
        sizes.append(noise + kept)
    assert sizes[1] - sizes[0] == distinct * copies - 20  # one class more is one class's noise more, not double


def test_check_8_the_notebooks_epoch_has_8120_samples() -> None:
    # |F| * n_distinct * copies + kept classes * retain_per_class with the defaults and two classes of ten forgotten.
    method = UNSIR()
    assert 2 * method.distinct_noise * method.noise_copies + 8 * method.retain_per_class == 8120


def test_several_classes_at_once(trained: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=[3, 8]))
    forgotten = apply(UNSIR(), Case(trained["mlp"], split, run())).model
    assert accuracy(forgotten, split.test_forget) < 0.05
    assert accuracy(forgotten, split.test_retain) > 0.85


def test_items_are_refused_before_any_work(trained: dict[str, Artifact], item_split: Split) -> None:
    with pytest.raises(UnsupportedRequestError, match="fine-tune"):
        apply(UNSIR(), Case(trained["mlp"], item_split, run()))


def test_a_small_subset_leaves_noise_in_the_statistics_unless_they_are_restored(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    kept = {}
    for choice in ("never", "always"):
        method = UNSIR(impair_lr=0, repair_lr=0, retain_per_class=30, restore_statistics=choice)
        kept[choice] = accuracy(apply(method, Case(trained["cnn"], class_split, run())).model, class_split.test_retain)
    assert kept["always"] > kept["never"]
    assert kept["always"] > accuracy(trained["cnn"].model, class_split.test_retain) - 0.05
