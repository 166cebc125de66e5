"""MNIST, from torchvision's idx files."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from efface.data.data import Data
from efface.data.sources.normalisation import Normalisation
from efface.data.sources.torchvision import fetch, image_samples
from efface.errors import InputError
from efface.running.extras import import_torchvision

__all__ = ["mnist"]

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
        fetch(lambda: datasets.MNIST(str(root), download=True), "MNIST", root)
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
    train, test = (image_samples(raw, part.data[:, None], part.targets, normalisation) for part in (train, test))
    return Data("mnist", train, test, tuple(map(str, range(10))), options=normalisation.options)


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
