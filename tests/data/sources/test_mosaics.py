"""Lossless mosaics of many images."""

import pickle
import shutil

import numpy as np
import pytest

from efface.data import load
from efface.errors import InputError
from efface.running.extras import import_pillow, import_torchvision
from tests.data.sources.layouts import Evil, write_batches, write_mosaics


@pytest.mark.parametrize("sums", [True, False])
def test_mosaics_hold_the_same_images_as_the_batches(tmp_path, monkeypatch, photographs, sums):
    images, labels = photographs
    write_mosaics(tmp_path / "mosaics", images, labels, sums)
    write_batches(tmp_path / "batches", import_torchvision().datasets.CIFAR10, monkeypatch, images, labels)
    ours, theirs = load("cifar10", tmp_path / "mosaics"), load("cifar10", tmp_path / "batches")
    assert ours.train.fingerprint == theirs.train.fingerprint
    assert ours.test.fingerprint == theirs.test.fingerprint
    assert np.flatnonzero(ours.metadata["inexact"]).tolist() == [2, 7]


def test_a_mosaic_with_another_sum_is_named(tmp_path, photographs):
    folder = write_mosaics(tmp_path, *photographs)
    shutil.copy(folder / "train_000.webp", folder / "train_001.webp")
    with pytest.raises(InputError, match=r"train_001\.webp is corrupt: its sha256"):
        load("cifar10", tmp_path)
    (folder / "train_001.webp").unlink()
    with pytest.raises(InputError, match=r"lacks train_001\.webp, which SHA256SUMS lists"):
        load("cifar10", tmp_path)


def test_mosaics_without_sums_are_still_checked(tmp_path, photographs):
    folder = write_mosaics(tmp_path, *photographs, sums=False)
    whole = (folder / "train_001.webp").read_bytes()
    (folder / "train_001.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"train_001\.webp is corrupt or no image"):
        load("cifar10", tmp_path)
    import_pillow().new("RGB", (31, 64)).save(folder / "train_001.webp")
    with pytest.raises(InputError, match=r"train_001\.webp is no mosaic"):
        load("cifar10", tmp_path)
    (folder / "train_001.webp").unlink()
    with pytest.raises(InputError, match="5 train images, but 10 labels"):
        load("cifar10", tmp_path)
    (folder / "labels.npz").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(InputError, match=r"labels\.npz is missing or no \.npz"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()
