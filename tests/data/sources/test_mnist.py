"""MNIST: made-up files in the idx format, and the real set where it lies beside the repository."""

import gzip
import hashlib

import numpy as np
import pytest
import torch

from efface.data import load
from efface.errors import InputError
from tests.data.sources.layouts import SHARED, everything, real, sha256, write_idx


@pytest.mark.parametrize(
    "suffixes", [("",) * 4, (".gz",) * 4, ("", ".gz", ".gz", "")], ids=["plain", "packed", "mixed"]
)
def test_mnist_is_read_packed_or_not_and_its_folder_is_left_alone(tmp_path, digits, suffixes):
    raw = write_idx(tmp_path, digits, suffixes)
    before = {file.name: file.read_bytes() for file in raw.iterdir()}
    data = load("mnist", tmp_path)
    assert np.array_equal(data.train.inputs.numpy()[:, 0], digits["train"][0])
    assert np.array_equal(data.test.inputs.numpy()[:, 0], digits["t10k"][0])
    assert np.array_equal(data.train.labels.numpy(), digits["train"][1])
    assert {file.name: file.read_bytes() for file in raw.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_missing_mnist_files_are_named_with_where_they_were_looked_for(tmp_path, digits):
    raw = write_idx(tmp_path, digits)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"MNIST.raw for t10k-labels-idx1-ubyte, .*--download"):
        load("mnist", tmp_path)


def test_corrupt_mnist_files_are_refused(tmp_path, digits):
    raw = write_idx(tmp_path / "cut", digits)
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated or no idx files"):
        load("mnist", tmp_path / "cut")
    raw = write_idx(tmp_path / "packed", digits, (".gz",) * 4)
    file = raw / "train-labels-idx1-ubyte.gz"
    for content in (file.read_bytes()[:-3], b"not gzip at all"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"train-labels-idx1-ubyte\.gz is truncated or no gzip file"):
            load("mnist", tmp_path / "packed")
    raw = write_idx(tmp_path / "labels", digits | {"t10k": (digits["t10k"][0], np.full(10, 10, np.uint8))})
    with pytest.raises(InputError, match="test labels reach 10"):
        load("mnist", tmp_path / "labels")


@real("MNIST")
def test_the_real_mnist_is_the_published_one():
    data = load("mnist", SHARED)
    # The published gzip files' own bytes, unpacked here without torchvision.
    with gzip.open(SHARED / "MNIST/raw/train-images-idx3-ubyte.gz") as file:
        assert sha256(data.train.inputs.numpy()) == hashlib.sha256(file.read()[16:]).hexdigest()
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert torch.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    x = everything(data.train)
    assert abs(float(x.mean())) < 1e-3  # the constants are rounded to four digits
    assert abs(float(x.std()) - 1) < 1e-3
