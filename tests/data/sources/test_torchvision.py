"""Image sources: small made-up copies of each layout, and the real sets where they lie beside the repository."""

import gzip
import hashlib
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from efface.data import load
from efface.data.sources.normalisation import NORMALISATION
from efface.errors import InputError
from efface.running.extras import import_pillow, import_torchvision

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def real(*parts):
    folder = SHARED.joinpath(*parts)
    return pytest.mark.skipif(
        not folder.is_dir(), reason=f"no {'/'.join(parts)} in ../shared/data beside the repository"
    )


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def everything(samples):
    return next(samples.read([torch.arange(len(samples))]))


# MNIST


@pytest.fixture
def digits():
    draw = np.random.default_rng(0)
    sizes = {"train": 20, "t10k": 10}
    return {
        part: (draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10)
        for part, n in sizes.items()
    }


def write_idx(root, digits, suffixes=("", "", "", "")):
    """Write the four files by the idx format's definition: two zero bytes, type 8, axes, sizes, values."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    contents = {}
    for part, (images, labels) in digits.items():
        contents[f"{part}-images-idx3-ubyte"] = struct.pack(">HBB3I", 0, 8, 3, *images.shape) + images.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">HBB1I", 0, 8, 1, *labels.shape) + labels.tobytes()
    for (name, content), suffix in zip(contents.items(), suffixes, strict=True):
        (raw / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    return raw


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


def test_normalisation_is_applied_recorded_and_loads_the_same_data_again(tmp_path, digits):
    write_idx(tmp_path, digits)
    usual = load("mnist", tmp_path)
    pixels = torch.from_numpy(digits["train"][0])[:, None] / 255
    # One multiplication and one addition in float32, of values up to 3: a few units in the last place.
    torch.testing.assert_close(everything(usual.train), (pixels - 0.1307) / 0.3081, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(everything(load("mnist", tmp_path, normalise=False).train), pixels)
    own = load("mnist", tmp_path, mean=[0.5], std=[0.25])
    torch.testing.assert_close(everything(own.train), (pixels - 0.5) / 0.25)
    assert usual.options == {"normalise": True, "mean": (0.1307,), "std": (0.3081,)}
    prints = set()
    for options in ({}, {"normalise": False}, {"mean": [0.5], "std": [0.25]}):
        data = load("mnist", tmp_path, **options)
        assert load("mnist", tmp_path, **data.options).fingerprint == data.fingerprint
        prints.add(data.fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize(
    "options", [{"normalise": False, "mean": [0.5]}, {"std": [0.0]}, {"mean": [0.1, 0.2]}, {"std": [-1.0]}, {"men": 1}]
)
def test_constants_that_make_no_sense_are_refused(tmp_path, digits, options):
    write_idx(tmp_path, digits)
    with pytest.raises(InputError):
        load("mnist", tmp_path, **options)


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


def test_a_download_happens_only_when_asked_for_and_needed(tmp_path, digits, monkeypatch):
    datasets = import_torchvision().datasets
    calls = []

    def download(self):
        calls.append(self.root)
        write_idx(Path(self.root), digits)

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(InputError):
        load("mnist", tmp_path)
    assert calls == []
    monkeypatch.setattr(datasets.MNIST, "resources", [(f"{part}-images-idx3-ubyte.gz", "") for part in digits])
    assert len(load("mnist", tmp_path, download=True).train) == 20
    assert len(load("mnist", tmp_path, download=True).train) == 20
    assert len(calls) == 1


def test_a_failed_download_is_explained(tmp_path, monkeypatch):
    def download(self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(import_torchvision().datasets.MNIST, "download", download)
    with pytest.raises(InputError, match=r"could not be fetched into .*Check the network"):
        load("mnist", tmp_path, download=True)


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


# CIFAR


def write_batches(root, kind, monkeypatch, images, labels):
    """Write torchvision's layout with few images, and the md5 sums that it will compare with."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)

    def dump(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    key = "fine_labels" if kind.base_folder == "cifar-100-python" else "labels"
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    half = len(images) // 2
    monkeypatch.setattr(kind, "train_list", [dump("first", {"data": rows[:half], key: labels[:half]})])
    monkeypatch.setattr(kind, "test_list", [dump("second", {"data": rows[half:], key: labels[half:]})])
    name, md5 = dump("meta", {kind.meta["key"]: [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(kind, "meta", {"filename": name, "key": kind.meta["key"], "md5": md5})
    return folder


@pytest.fixture
def photographs():
    draw = np.random.default_rng(1)
    return draw.integers(0, 256, (20, 32, 32, 3), np.uint8), [i % 10 for i in range(20)]


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


class Evil:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return Path.mkdir, (Path(self.folder),)


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


def write_mosaics(root, images, labels, sums=True):
    """Two training mosaics of five images and one test mosaic of ten."""
    image = import_pillow()
    folder = root / "CIFAR10"
    folder.mkdir(parents=True)
    for name, rows in (("train_000", images[:5]), ("train_001", images[5:10]), ("test_000", images[10:])):
        image.fromarray(rows.reshape(-1, 32, 3)).save(folder / f"{name}.webp", lossless=True)
    np.savez(
        folder / "labels.npz",
        y_train=np.array(labels[:10], np.uint8),
        y_test=np.array(labels[10:], np.uint8),
        inexact_train=np.array([2, 7], np.int32),
        inexact_test=np.array([0], np.int32),
    )
    if sums:
        lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in folder.iterdir()]
        (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


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


@real("CIFAR10")
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


# Image folders


@pytest.fixture
def pictures(tmp_path):
    """Two classes; every image is one colour, so that resizing and cutting change nothing but the size."""
    image = import_pillow()
    colours = {}
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                colour = (10 * i, 100 * label, 200 if part == "test" else 50)
                image.new("RGB", (20 + 7 * i, 31), colour).save(folder / f"{i}.png")
                colours.setdefault(part, []).append(colour)
    return tmp_path, colours


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
