"""CIFAR-10 and CIFAR-100, in torchvision's layout or as lossless mosaics.

Torchvision's batches are pickles: it compares the md5 sum of every one with the published sum in the constructor,
before it opens it, and refuses to go on otherwise, so that no other file is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efface.data.data import Data
from efface.data.sources.mosaics import mosaics
from efface.data.sources.normalisation import Normalisation
from efface.data.sources.torchvision import fetch, image_samples
from efface.errors import InputError
from efface.running.extras import import_torchvision

__all__ = ["cifar10", "cifar100"]


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


def _cifar(name: str, root: Path, folder: Path, also: str, download: bool, normalisation: Normalisation) -> Data:
    """Read torchvision's layout of CIFAR-10 or CIFAR-100."""
    kind = getattr(import_torchvision().datasets, name)
    if download:
        fetch(lambda: kind(str(root), download=True), name, root)
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
        image_samples(folder, part.data.transpose(0, 3, 1, 2), part.targets, normalisation) for part in (train, test)
    )
    return Data(name.lower(), train, test, classes, options=normalisation.options)
