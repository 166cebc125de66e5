"""MNIST, CIFAR-10, CIFAR-100 and folders of images, as uint8 arrays of shape (N, C, H, W).

The reading of idx files, CIFAR's batches and image files is torchvision's and Pillow's. CIFAR's batches are pickles:
torchvision compares the md5 sum of every one with the published sum in the constructor, before it opens it, and refuses
to go on otherwise, so that no other file is ever unpickled.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from efface.data.image_folder import image_folder
from efface.data.mosaics import mosaics
from efface.data.normalisation import Normalisation
from efface.data.samples import ArraySamples
from efface.data.sources import Data
from efface.errors import InputError
from efface.models.torchvision_compat import import_torchvision

__all__ = ["cifar10", "cifar100", "image_folder", "mnist"]

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def mnist(
    root: str | Path,
    download: bool = False,
    normalise: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Read MNIST, 60,000 and 10,000 grey digits of 28 x 28, from ROOT/MNIST/raw.

    Args:
        root: Folder that holds MNIST/raw with torchvision's four idx files, unpacked or as .gz; those are unpacked into
            a temporary folder, so that the root may be read-only.
        download: Let torchvision fetch what is missing.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Instead of the usual 0.1307.
        std: Instead of the usual 0.3081.

    Raises:
        InputError: Files are missing, truncated or no idx files.
    """
    normalisation = Normalisation.of("mnist", normalise, mean, std)
    raw = Path(root) / "MNIST" / "raw"
    datasets = import_torchvision().datasets
    found = _idx_files(raw)
    if download and None in found.values():
        _fetch(lambda: datasets.MNIST(str(root), download=True), "MNIST", root)
        found = _idx_files(raw)
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise InputError(
            f"no MNIST under {root}: looked in {raw} for {', '.join(missing)}, unpacked or with .gz. "
            "Give the folder that holds MNIST/raw, or let it be fetched with --download (download=True)."
        )
    with tempfile.TemporaryDirectory(prefix="efface-mnist-") as folder:
        unpacked = Path(folder) / "MNIST" / "raw"
        unpacked.mkdir(parents=True)
        for name, path in found.items():
            if path is not None:
                _unpack(path, unpacked / name)
        try:
            train, test = (datasets.MNIST(folder, train=is_train) for is_train in (True, False))
        # What torchvision's idx reader raises on a truncated or foreign file; it checks with assert.
        except (AssertionError, ValueError, RuntimeError, LookupError, TypeError) as error:
            raise InputError(
                f"the files in {raw} are truncated or no idx files ({error}). Fetch them again."
            ) from error
    train, test = (_samples(raw, part.data[:, None], part.targets, normalisation) for part in (train, test))
    return Data("mnist", train, test, tuple(map(str, range(10))), options=normalisation.options)


def cifar10(
    root: str | Path,
    download: bool = False,
    normalise: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Read CIFAR-10, 50,000 and 10,000 colour images of 32 x 32, in torchvision's layout or as lossless mosaics.

    Torchvision's is ROOT/cifar-10-batches-py. The other is ROOT/CIFAR10 with train_*.webp and test_*.webp, each 500
    images one below the other, labels.npz (y_train, y_test and, for copies that are not exact throughout,
    inexact_train, inexact_test), and SHA256SUMS, which every file is compared with where it is present. Inexact
    training images are marked in the metadata column `inexact`.

    Args:
        root: Folder that holds either.
        download: Let torchvision fetch the batches if neither is there.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Per channel, instead of the usual (0.4914, 0.4822, 0.4465).
        std: Per channel, instead of the usual (0.2023, 0.1994, 0.2010).

    Raises:
        InputError: Neither layout is there, or a file is corrupt (named).
    """
    normalisation = Normalisation.of("cifar10", normalise, mean, std)
    batches, tiles = Path(root) / "cifar-10-batches-py", Path(root) / "CIFAR10"
    if not batches.is_dir() and any(tiles.glob("train_*.webp")):
        return mosaics(tiles, normalisation)
    also = f" or {tiles} with train_*.webp"
    return _cifar("CIFAR10", Path(root), batches, also, download, normalisation)


def cifar100(
    root: str | Path,
    download: bool = False,
    normalise: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Read CIFAR-100, 50,000 and 10,000 colour images of 32 x 32 in 100 classes, from ROOT/cifar-100-python.

    Args:
        root: Folder that holds torchvision's layout.
        download: Let torchvision fetch what is missing.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Per channel, instead of the usual (0.5071, 0.4867, 0.4408).
        std: Per channel, instead of the usual (0.2675, 0.2565, 0.2761).

    Raises:
        InputError: The folder is missing, or a file has not the published md5 sum.
    """
    normalisation = Normalisation.of("cifar100", normalise, mean, std)
    return _cifar("CIFAR100", Path(root), Path(root) / "cifar-100-python", "", download, normalisation)


def _samples(where: Path, inputs: Any, labels: Any, normalisation: Normalisation) -> ArraySamples:
    """As `ArraySamples`, with the place in the error."""
    try:
        return ArraySamples(inputs, labels, normalisation.mean, normalisation.std)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _idx_files(raw: Path) -> dict[str, Path | None]:
    """Return where each of the four files is, unpacked or packed."""
    places = {name: (raw / name, raw / f"{name}.gz") for name in IDX}
    return {name: next((path for path in paths if path.is_file()), None) for name, paths in places.items()}


def _unpack(source: Path, target: Path) -> None:
    """Copy a file, through gunzip if it is a .gz."""
    try:
        with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source} is truncated or no gzip file ({error}). Fetch it again.") from error


def _fetch(download: Callable[[], Any], name: str, root: str | Path) -> None:
    """Let torchvision download, and explain a failure."""
    try:
        download()
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} could not be fetched into {root} ({error}). Check the network and that the folder can be written, "
            "or copy the files there from another machine."
        ) from error


def _cifar(name: str, root: Path, folder: Path, also: str, download: bool, normalisation: Normalisation) -> Data:
    """Read torchvision's layout of CIFAR-10 or CIFAR-100."""
    kind = getattr(import_torchvision().datasets, name)
    if download:
        _fetch(lambda: kind(str(root), download=True), name, root)
    if not folder.is_dir():
        raise InputError(
            f"no {name} under {root}: looked for {folder}{also}. Give the folder that holds it, or let it be fetched "
            "with --download (download=True)."
        )
    try:
        train, test = (kind(str(root), train=is_train) for is_train in (True, False))
    except RuntimeError as error:
        raise InputError(
            f"{folder} is incomplete, or a file in it has not the published md5 sum, so that it was not opened. "
            "Fetch it again with --download (download=True)."
        ) from error
    classes = tuple(train.classes)
    train, test = (
        _samples(folder, part.data.transpose(0, 3, 1, 2), part.targets, normalisation) for part in (train, test)
    )
    return Data(name.lower(), train, test, classes, options=normalisation.options)
