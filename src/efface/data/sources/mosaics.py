"""CIFAR-10 as lossless mosaics: 500 images of 32 x 32 one below the other in one file, without a pickle."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from efface.data.data import Data
from efface.data.samples import ArraySamples
from efface.data.sources.normalisation import Normalisation
from efface.errors import InputError
from efface.running.extras import import_pillow

__all__ = ["mosaics"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

log = logging.getLogger(__name__)


def mosaics(folder: Path, normalisation: Normalisation) -> Data:
    """Read CIFAR-10 from a folder of lossless mosaics; see `efface.data.vision.cifar10`.

    Raises:
        InputError: A file is missing, corrupt (named), or not such a mosaic.
    """
    labels_file = folder / "labels.npz"
    files = {part: sorted(folder.glob(f"{part}_*.webp")) for part in ("train", "test")}
    _verify(folder, [labels_file, *files["train"], *files["test"]])
    try:
        with np.load(labels_file, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{labels_file} is missing or no .npz of plain arrays ({error})") from error
    samples, inexact = {}, {}
    for part, paths in files.items():
        labels = columns.get(f"y_{part}", np.empty(0, np.uint8))
        with ThreadPoolExecutor(max_workers=2) as pool:  # Pillow decodes outside the interpreter lock
            images = np.concatenate([np.empty((0, 32, 32, 3), np.uint8), *pool.map(_mosaic, paths)])
        if len(images) != len(labels):
            raise InputError(f"{folder}: {len(images)} {part} images, but {len(labels)} labels; copy the folder again")
        pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        samples[part] = ArraySamples(pixels, labels, normalisation.mean, normalisation.std)
        inexact[part] = np.isin(np.arange(len(labels)), columns.get(f"inexact_{part}", []))
    if inexact["train"].any() or inexact["test"].any():
        log.warning(
            "%s: %d training and %d test images differ slightly from the published ones (metadata column inexact)",
            folder.name,
            inexact["train"].sum(),
            inexact["test"].sum(),
        )
    return Data(
        "cifar10",
        samples["train"],
        samples["test"],
        CLASSES,
        metadata={"inexact": inexact["train"]},
        options=normalisation.options,
    )


def _verify(folder: Path, files: Sequence[Path]) -> None:
    """Compare files with SHA256SUMS, where there is one."""
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return
    lines = [line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines() if line.strip()]
    expected = {parts[1].lstrip("*"): parts[0].lower() for parts in lines if len(parts) == 2}
    absent = sorted(set(expected) - {path.name for path in files if path.is_file()})
    if absent:
        raise InputError(f"{folder} lacks {', '.join(absent[:8])}, which SHA256SUMS lists; copy the folder again")
    for path in files:
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected.get(path.name):
            raise InputError(f"{path} is corrupt: its sha256 is not the one in {sums.name}; copy it again")


def _mosaic(path: Path) -> np.ndarray:
    """Decode one file to (n, 32, 32, 3)."""
    image = import_pillow()
    try:
        with image.open(path) as mosaic:
            pixels = np.asarray(mosaic)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is corrupt or no image ({error}); copy it again") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (32, 3) or len(pixels) % 32:
        raise InputError(f"{path} is no mosaic of 32 x 32 colour images: its array has shape {pixels.shape}")
    return pixels.reshape(-1, 32, 32, 3)
