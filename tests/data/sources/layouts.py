"""Small made-up copies of the published layouts, and where the real sets lie beside the repository."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from efface.running.extras import import_pillow

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


class Evil:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return Path.mkdir, (Path(self.folder),)


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
