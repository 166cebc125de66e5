"""Images that a table lists: path, label, and whatever else is known of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.data.data import Data
from efface.data.sources.columns import KINDS, class_numbers_of, column_of, plain, read_table, values_of
from efface.data.sources.images import SHOWN, Files, Pictures, Preparation, inside, read_pictures
from efface.errors import InputError
from efface.words import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["manifest"]

SPLIT = "split"


def manifest(
    root: str | Path,
    path: str = "path",
    label: str = "label",
    groups: str | None = None,
    ids: str | None = None,
    classes: Sequence[str] | None = None,
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
) -> Data:
    """Read the images that ROOT/train.csv and ROOT/test.csv list, or ROOT/manifest.csv with a column `split`.

    Tables may be .parquet as well. Every column beside path, label, ids and groups is metadata, which requests with a
    condition ask for; the groups' column is metadata, too. How images become inputs: see `image_folder`.

    Args:
        root: Folder that holds the tables and, below it, all images.
        path: Column of the image's path below ROOT.
        label: Column of the class: names, or class numbers from 0.
        groups: Column of who an image belongs to.
        ids: Column of ids; by default an image's id is its path.
        classes: Class names in the order of the model's outputs; by default sorted.
        size: Height and width of the inputs.
        resize: Shorter side before cutting; without it, `size`.
        memory_gib: Budget for keeping the decoded images, in GiB; 0 always reads lazily.
        workers: DataLoader worker processes for lazy reading.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Per channel, instead of ImageNet's.
        std: Per channel, instead of ImageNet's.
        interpolation: `bilinear` or `bicubic`.
        squash: Resize both sides to `resize`, whatever the image's shape.
        preprocessing: Where these numbers come from, for the record.
        skip_bad: Leave out images that are missing or cannot be used; the record lists them.

    Raises:
        InputError: A table or column is missing, an image is listed twice, a path leads out of ROOT, a label is no
            class, or images are missing, corrupt or gigantic (all are listed).
    """
    root = Path(root)
    preparation = Preparation.of(size, resize, normalise, mean, std, interpolation, squash)
    tables = _tables(root, [path, *([ids] if ids else [])])
    listed = [_paths(column_of(t, path, where), where, root) for where, t in tables.items()]
    labels = [values_of(column_of(t, label, where)) for where, t in tables.items()]
    train_labels, test_labels, names = class_numbers_of(labels[0], labels[1], classes)
    parts = [
        Pictures(Files(files, root), numbers, preparation)
        for files, numbers in zip(listed, (train_labels, test_labels), strict=True)
    ]
    read = read_pictures(parts, preparation, memory_gib=memory_gib, workers=workers, skip_bad=skip_bad)
    where, train = next(iter(tables.items()))
    kept = read[0].kept
    people = [None if groups is None else values_of(column_of(t, groups, w)) for w, t in tables.items()]
    aside = {path, label, ids, SPLIT}
    own = {"path": path, "label": label, "groups": groups, "ids": ids, "classes": classes, "workers": workers}
    kinds = {"memory_gib": memory_gib, "preprocessing": preprocessing, "skip_bad": skip_bad}
    return Data(
        root.resolve().name,
        read[0].samples,
        read[1].samples,
        names,
        None if people[0] is None else people[0][kept],
        {str(c): plain(train[c])[kept] for c in train.columns if c not in aside},
        options=preparation.options | own | kinds,
        ids=np.array(read[0].names) if ids is None else plain(column_of(train, ids, where))[kept],
        test_groups=None if people[1] is None else people[1][read[1].kept],
        skipped=tuple(read[0].skipped + read[1].skipped),
    )


def _tables(root: Path, text: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the training and the test table by what errors call them."""
    found = {part: _file(root, part) for part in ("train", "test")}
    if found["train"] and found["test"]:
        return {str(file): _filled(read_table(file, text), str(file)) for file in found.values() if file}
    both = _file(root, "manifest")
    if both is None:
        kinds = " or ".join(KINDS)
        raise InputError(
            f"no manifest in {root}; needed: train and test ({kinds}), or manifest ({kinds}) with a column {SPLIT!r} "
            "of train and test"
        )
    table = read_table(both, [*text, SPLIT])
    part = column_of(table, SPLIT, str(both)).astype(str)
    unknown = sorted(set(part.unique()) - {"train", "test"})
    if unknown:
        raise InputError(f"{both}: column {SPLIT!r} holds {', '.join(unknown[:8])}; allowed: train, test")
    return {f"{both} ({name})": _filled(table[part == name], f"{both} ({name})") for name in ("train", "test")}


def _file(root: Path, name: str) -> Path | None:
    return next((root / f"{name}{kind}" for kind in KINDS if (root / f"{name}{kind}").is_file()), None)


def _filled(table: pd.DataFrame, where: str) -> pd.DataFrame:
    if len(table) == 0:
        raise InputError(f"{where} lists no image")
    return table


def _paths(column: pd.Series[Any], where: str, root: Path) -> tuple[Path, ...]:
    """Return the files of a column of paths.

    Raises:
        InputError: A path is not below the root, or stands twice.
    """
    named, home = [str(v) for v in column.tolist()], root.resolve()
    outside = [n for n in named if "\0" in n or PurePosixPath(n).is_absolute() or not inside(root / n, home)]
    if outside:
        raise InputError(
            f"{where}: {counted(len(outside), 'path is', 'paths are')} not below {root} ('..', absolute, or a "
            "link out of it): "
            f"{', '.join(map(repr, outside[:SHOWN]))}; give paths below that folder"
        )
    files = [root / PurePosixPath(n) for n in named]
    twice = [str(PurePosixPath(f.relative_to(root))) for f, times in Counter(files).items() if times > 1]
    if twice:
        raise InputError(
            f"{where} lists {counted(len(twice), 'image')} more than once: {', '.join(twice[:8])}; list each once"
        )
    return tuple(files)
