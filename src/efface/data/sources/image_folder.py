"""A folder of images per class, read by torchvision's ImageFolder and Pillow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from efface.data.data import Data
from efface.data.samples import ArraySamples, DatasetSamples, Samples
from efface.data.sources.normalisation import Normalisation
from efface.errors import InputError
from efface.running.extras import import_pillow, import_torchvision

__all__ = ["FolderSamples", "image_folder"]


def image_folder(
    root: str | Path,
    size: int = 224,
    resize: int | None = None,
    memory_gib: float = 2.0,
    workers: int = 0,
    normalise: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Read ROOT/train/CLASS/* and ROOT/test/CLASS/* through torchvision's ImageFolder, as RGB.

    Every image is resized so that its shorter side has `resize` pixels, and its centre is cut out. If all of them
    together need at most `memory_gib` as uint8, they are decoded once and kept; otherwise they are read when they are
    asked for. The id of a training image is its path below ROOT, such as `train/cat/001.jpg`.

    Args:
        root: Folder that holds train/ and test/, with the same class folders in both.
        size: Height and width of the inputs.
        resize: Shorter side before cutting; without it, `size`.
        memory_gib: Budget for keeping the decoded images, in GiB; 0 always reads lazily.
        workers: DataLoader worker processes for lazy reading.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Per channel, instead of ImageNet's (0.485, 0.456, 0.406).
        std: Per channel, instead of ImageNet's (0.229, 0.224, 0.225).

    Raises:
        InputError: A folder is missing or empty, the classes differ, sizes make no sense, or an image is corrupt
            (named; with lazy reading, when it is read).
    """
    root = Path(root)
    shorter = size if resize is None else resize
    if size < 1 or shorter < size:
        raise InputError(f"size {size} and resize {shorter}; needed: size at least 1 and resize at least size")
    normalisation = Normalisation.of("image_folder", normalise, mean, std)
    transforms = import_torchvision().transforms
    cut = transforms.Compose([transforms.Resize(shorter), transforms.CenterCrop(size), transforms.PILToTensor()])
    train, test = (_folder(root / part, cut) for part in ("train", "test"))
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        raise InputError(
            f"{root}: train and test must hold the same class folders; in one of them only: {', '.join(different[:8])}"
        )
    fits = (len(train) + len(test)) * 3 * size**2 <= memory_gib * 2**30
    options = {"size": size, "resize": resize, "memory_gib": memory_gib, "workers": workers} | normalisation.options
    samples: list[Samples] = [
        _decoded(part, normalisation) if fits else FolderSamples(part, normalisation, workers) for part in (train, test)
    ]
    ids = np.array([Path(path).relative_to(root).as_posix() for path, _ in train.samples])
    return Data("image_folder", samples[0], samples[1], tuple(train.classes), options=options, ids=ids)


def _folder(folder: Path, cut: Callable[[Any], Tensor]) -> Any:
    """Return torchvision's ImageFolder over `folder`, with a loader that names corrupt files."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; needed: {folder}/CLASS/*.jpg, and the same for train and test")
    try:
        return import_torchvision().datasets.ImageFolder(str(folder), transform=cut, loader=_open)
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no classes, or a class without images: {error}") from error


def _open(path: str) -> Any:
    """Decode one image as RGB."""
    image = import_pillow()
    try:
        with image.open(path) as file:
            return file.convert("RGB")
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise InputError(f"{path} is corrupt or no image ({error}); replace or remove it") from error


def _decoded(dataset: Any, normalisation: Normalisation) -> ArraySamples:
    """Decode all images into one uint8 tensor."""
    first = dataset[0][0]
    pixels = torch.empty((len(dataset), *first.shape), dtype=torch.uint8)

    def decode(position: int) -> None:
        pixels[position] = dataset[position][0]

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        for _ in pool.map(decode, range(len(dataset))):
            pass
    return ArraySamples(pixels, dataset.targets, normalisation.mean, normalisation.std)


class _Normalised(Dataset[tuple[Tensor, int]]):
    """The images of a folder as normalised float tensors."""

    def __init__(self, dataset: Any, normalisation: Normalisation) -> None:
        self.dataset = dataset
        self.mean, self.std = (
            torch.tensor(default if given is None else given).reshape(-1, 1, 1)
            for given, default in ((normalisation.mean, (0.0,)), (normalisation.std, (1.0,)))
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels, label = self.dataset[index]
        return (pixels / 255 - self.mean) / self.std, label


class FolderSamples(DatasetSamples):
    """A folder of images, decoded when they are asked for.

    Args:
        dataset: torchvision's ImageFolder, yielding uint8 tensors.
        normalisation: Applied to pixels in [0, 1].
        workers: DataLoader worker processes.
    """

    def __init__(self, dataset: Any, normalisation: Normalisation, workers: int) -> None:
        super().__init__(_Normalised(dataset, normalisation), dataset.targets, workers, "image folder")
        self.files = [Path(path) for path, _ in dataset.samples]
        self.root = Path(dataset.root)
        self.normalisation = normalisation

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every file's path below the root and its size in bytes, input shape and normalisation."""
        digest = hashlib.sha256(f"{self.input_shape} {self.normalisation}".encode())
        for file in self.files:
            digest.update(f"{file.relative_to(self.root).as_posix()} {file.stat().st_size}\n".encode())
        return digest.hexdigest()
