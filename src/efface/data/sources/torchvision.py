"""MNIST, CIFAR-10, CIFAR-100 and folders of images, as uint8 arrays of shape (N, C, H, W).

The reading of idx files, CIFAR's batches and image files is torchvision's and Pillow's. CIFAR's batches are pickles:
torchvision compares the md5 sum of every one with the published sum in the constructor, before it opens it, and refuses
to go on otherwise, so that no other file is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from efface.data.samples import ArraySamples
from efface.data.sources.normalisation import Normalisation
from efface.errors import InputError


def image_samples(where: Path, inputs: Any, labels: Any, normalisation: Normalisation) -> ArraySamples:
    """As `ArraySamples`, with the place in the error."""
    try:
        return ArraySamples(inputs, labels, normalisation.mean, normalisation.std)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def fetch(download: Callable[[], Any], name: str, root: str | Path) -> None:
    """Let torchvision download, and explain a failure."""
    try:
        download()
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} could not be fetched into {root} ({error}). Check the network and that the folder can be written, "
            "or copy the files there from another machine."
        ) from error
