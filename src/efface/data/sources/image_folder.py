"""A folder of images per class, listed by torchvision's ImageFolder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efface.data.data import Data
from efface.data.sources.images import SHOWN, Files, Pictures, Preparation, inside, read_pictures
from efface.errors import InputError
from efface.running.extras import import_torchvision
from efface.words import counted

__all__ = ["image_folder"]


def image_folder(
    root: str | Path,
    size: int = 224,
    resize: int | None = None,
    memory_gib: float = 2.0,
    workers: int = 0,
    normalise: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str = "bilinear",
    squash: bool = False,
    preprocessing: str = "",
    skip_bad: bool = False,
    follow_links: bool = False,
) -> Data:
    """Read ROOT/train/CLASS/* and ROOT/test/CLASS/* as RGB; the id of a training image is its path below ROOT.

    Every image is resized so that its shorter side has `resize` pixels, and its centre is cut out. If all of them
    together need at most `memory_gib` as uint8, they are decoded once and kept; otherwise they are read when they are
    asked for.

    Args:
        root: Folder that holds train/ and test/, with the same class folders in both.
        size: Height and width of the inputs.
        resize: Shorter side before cutting; without it, `size`.
        memory_gib: Budget for keeping the decoded images, in GiB; 0 always reads lazily.
        workers: DataLoader worker processes for lazy reading.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Per channel, instead of ImageNet's (0.485, 0.456, 0.406).
        std: Per channel, instead of ImageNet's (0.229, 0.224, 0.225).
        interpolation: `bilinear` or `bicubic`.
        squash: Resize both sides to `resize`, whatever the image's shape.
        preprocessing: Where these numbers come from, for the record.
        skip_bad: Leave out images that cannot be used; the record lists them.
        follow_links: Allow links that lead out of the root.

    Raises:
        InputError: A folder is missing or empty, the classes differ, sizes make no sense, a link leads out of the root,
            or images are corrupt or gigantic (all are listed; with lazy reading, corrupt ones when they are read).
    """
    root = Path(root)
    preparation = Preparation.of(size, resize, normalise, mean, std, interpolation, squash)
    train, test = (_listed(root / part) for part in ("train", "test"))
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        raise InputError(
            f"{root}: train and test must hold the same class folders; in one of them only: {', '.join(different[:8])}"
        )
    parts = []
    for part in (train, test):
        files = Files(tuple(Path(path) for path, _ in part.samples), root)
        home = root.resolve()
        outside = [files.name(i) for i, path in enumerate(files.paths) if not inside(path, home)]
        if outside and not follow_links:
            raise InputError(
                f"{root}: {counted(len(outside), 'image is a link that leads', 'images are links that lead')} "
                f"out of that folder: {', '.join(outside[:SHOWN])}. "
                "Copy them in, or say that these links are yours: --data-set follow_links=true"
            )
        parts.append(Pictures(files, part.targets, preparation))
    read = read_pictures(parts, preparation, memory_gib=memory_gib, workers=workers, skip_bad=skip_bad)
    options = {"memory_gib": memory_gib, "workers": workers, "preprocessing": preprocessing, "skip_bad": skip_bad}
    return Data(
        "image_folder",
        read[0].samples,
        read[1].samples,
        tuple(train.classes),
        options=preparation.options | options | {"follow_links": follow_links},
        ids=np.array(read[0].names),
        skipped=tuple(read[0].skipped + read[1].skipped),
    )


def _listed(folder: Path) -> Any:
    """Return torchvision's ImageFolder over `folder`, of which the list of files is used."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; needed: {folder}/CLASS/*.jpg, and the same for train and test")
    try:
        return import_torchvision().datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no classes, or a class without images: {error}") from error
