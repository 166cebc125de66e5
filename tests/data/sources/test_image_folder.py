"""Folders of images, kept in memory or read when asked."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from efface.data import load
from efface.data.sources.normalisation import NORMALISATION
from efface.errors import InputError
from efface.request import Request
from efface.running.extras import import_pillow
from tests.data.sources.layouts import everything


@pytest.mark.parametrize("memory_gib", [1.0, 0.0], ids=["kept", "lazy"])
def test_image_folders_hold_their_images_whether_kept_or_lazy(pictures, memory_gib):
    root, colours = pictures
    data = load("image_folder", root, size=8, memory_gib=memory_gib, normalise=False)
    assert (data.classes, data.input_shape) == (("cat", "dog"), (3, 8, 8))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for part in ("train", "test"):
        expected = torch.tensor(colours[part])[:, :, None, None].expand(-1, 3, 8, 8) / 255
        torch.testing.assert_close(everything(getattr(data, part)), expected)


def test_kept_and_lazy_images_are_the_same_and_the_centre_is_cut(pictures):
    root, _ = pictures
    image = import_pillow()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    image.fromarray(pixels).save(root / "train" / "cat" / "0.png")
    kept, lazy = (load("image_folder", root, size=8, resize=16, memory_gib=gib) for gib in (1, 0))
    torch.testing.assert_close(everything(kept.train), everything(lazy.train), rtol=1e-5, atol=1e-5)
    assert np.array_equal(kept.train.inputs[0].permute(1, 2, 0).numpy(), pixels[4:12, 8:16])
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in NORMALISATION["image_folder"])
    expected = (kept.train.inputs[0] / 255 - mean) / std
    torch.testing.assert_close(everything(lazy.train)[0], expected, rtol=1e-5, atol=1e-5)


def test_the_fingerprint_of_a_lazy_folder_sees_files_and_sizes(pictures):
    root, _ = pictures

    def fingerprint(size=8):
        return load("image_folder", root, size=size, memory_gib=0).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(9) != first
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "00.png")
    assert fingerprint() != first


@pytest.mark.parametrize("memory_gib", [1.0, 0.0], ids=["kept", "lazy"])
def test_a_corrupt_image_is_named(pictures, memory_gib):
    root, _ = pictures
    file = root / "train" / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InputError, match=r"dog.1\.png is corrupt or no image"):
        everything(load("image_folder", root, size=8, memory_gib=memory_gib).train)


def test_folders_that_are_missing_empty_or_unlike_are_refused(pictures):
    root, _ = pictures
    with pytest.raises(InputError, match=r"no folder .*absent.train"):
        load("image_folder", root / "absent")
    with pytest.raises(InputError, match="resize at least size"):
        load("image_folder", root, size=8, resize=4)
    (root / "train" / "cow").mkdir()
    with pytest.raises(InputError, match=r"a class without images.*cow"):
        load("image_folder", root, size=8)
    shutil.rmtree(root / "train" / "cow")
    shutil.rmtree(root / "test" / "dog")
    with pytest.raises(InputError, match="in one of them only: dog"):
        load("image_folder", root, size=8)


def test_images_are_asked_for_by_their_paths_below_the_root(pictures):
    root, _ = pictures
    data = load("image_folder", root, size=4)
    assert [Path(i).parts[0] for i in data.ids] == ["train"] * len(data.train)
    assert all((root / i).is_file() for i in data.ids)
    wanted = data.ids[2]
    assert Request.of(ids=[wanted]).resolve(data).indices.tolist() == [2]
    assert Path(wanted).parts[1] == data.classes[int(data.train.labels[2])]
