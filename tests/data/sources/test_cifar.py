"""CIFAR-10 and CIFAR-100 in torchvision's layout, and the real set where it lies beside the repository."""

import pickle

import numpy as np
import pytest
import torch

from efface.data import load
from efface.data.sources.normalisation import NORMALISATION
from efface.errors import InputError
from efface.running.extras import import_torchvision
from tests.data.sources.layouts import SHARED, Evil, everything, real, sha256, write_batches


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_in_torchvisions_layout(tmp_path, monkeypatch, photographs, name):
    images, labels = photographs
    write_batches(tmp_path, getattr(import_torchvision().datasets, name.upper()), monkeypatch, images, labels)
    data = load(name, tmp_path)
    assert data.classes[3] == "class 3"
    assert np.array_equal(data.train.inputs.numpy(), images[:10].transpose(0, 3, 1, 2))
    assert data.test.labels.tolist() == labels[10:]
    mean, std = (torch.tensor(numbers).reshape(1, 3, 1, 1) for numbers in NORMALISATION[name])
    expected = (data.test.inputs / 255 - mean) / std
    torch.testing.assert_close(everything(data.test), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("victim", ["first", "second", "meta"])
def test_a_batch_with_another_md5_sum_is_refused_before_it_is_unpickled(tmp_path, monkeypatch, photographs, victim):
    folder = write_batches(tmp_path, import_torchvision().datasets.CIFAR10, monkeypatch, *photographs)
    (folder / victim).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(InputError, match="not the published md5 sum"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "looked_for"), [("cifar10", r"CIFAR10 with train_\*\.webp"), ("cifar100", "cifar-100-python")]
)
def test_missing_cifar_says_what_was_looked_for(tmp_path, name, looked_for):
    with pytest.raises(InputError, match=f"{looked_for}.*--download"):
        load(name, tmp_path)


@real("CIFAR10")
@pytest.mark.seconds
def test_the_real_cifar10_has_the_published_pixels():
    data = load("cifar10", SHARED)
    # Sums over (N, 32, 32, 3) as stated in the README beside the files.
    expected = {
        "train": "ff7f60d2696c4304c0d820eb732bc21fbd38c69122372c42aeb4ef8569a4dd60",
        "test": "1249626010949d8f448e0faf792debbc3da0c50ed31bfff3678c99c37fbc7e48",
    }
    assert sha256(data.train.inputs.permute(0, 2, 3, 1).numpy()) == expected["train"]
    assert sha256(data.test.inputs.permute(0, 2, 3, 1).numpy()) == expected["test"]
    assert torch.bincount(data.train.labels).tolist() == [5000] * 10
    assert data.classes[8] == "ship"
    assert data.metadata["inexact"].sum() == 73
