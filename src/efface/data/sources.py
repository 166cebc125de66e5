"""Data sets by name, from arrays, or from any pair of torch Datasets."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from efface.data.samples import ArraySamples, DatasetSamples, Samples
from efface.errors import InputError, nearest

__all__ = ["SOURCES", "Data", "arrays", "digits", "load"]


@dataclass(frozen=True, eq=False)
class Data:
    """Train and test samples with class names and, where known, a group id and metadata per training item.

    Attributes:
        name: What it is called, e.g. `digits`.
        train: Training samples.
        test: Test samples.
        classes: Class names; the position is the class number.
        groups: One id per training sample (a person, a device), or None.
        metadata: Columns of one value per training sample, for requests with `where`.
        options: The arguments the source was loaded with, for the record; never a path of this machine.
        source: The name that `load` knows it by, or `custom`.
    """

    name: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    metadata: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = "custom"

    def __post_init__(self) -> None:
        """Check that the pieces fit together.

        Raises:
            InputError: Shapes differ, labels exceed the class names, or groups and metadata have the wrong length.
        """
        if self.train.input_shape != self.test.input_shape:
            raise InputError(f"training inputs are {self.train.input_shape}, test inputs {self.test.input_shape}")
        if len(self.classes) < 2:
            raise InputError(f"{len(self.classes)} class names; a classifier needs at least 2")
        for part, samples in (("train", self.train), ("test", self.test)):
            if len(samples) == 0:
                raise InputError(f"the {part} set is empty")
            if int(samples.labels.max()) >= len(self.classes):
                raise InputError(
                    f"{part} labels reach {int(samples.labels.max())}, but there are {len(self.classes)} class names"
                )
        for name, column in {"groups": self.groups, **self.metadata}.items():
            if column is not None and len(column) != len(self.train):
                raise InputError(
                    f"{name} has {len(column)} entries; needed: {len(self.train)}, one per training sample"
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return self.train.input_shape

    @property
    def train_labels(self) -> np.ndarray:
        """Training labels as a numpy array."""
        return np.asarray(self.train.labels.numpy())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of training samples, test samples and class names."""
        parts = (self.train.fingerprint, self.test.fingerprint, *self.classes)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @classmethod
    def of(
        cls,
        train: Dataset[Any],
        test: Dataset[Any],
        classes: Sequence[str] | None = None,
        groups: Sequence[Any] | np.ndarray | None = None,
        metadata: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        workers: int = 0,
        name: str = "custom",
    ) -> Data:
        """Wrap any two map-style datasets of (input tensor, label) pairs.

        Args:
            train: Training set; it keeps doing its own transforms.
            test: Test set.
            classes: Class names; otherwise `train.classes`, otherwise the numbers up to the largest label.
            groups: One id per training sample.
            metadata: Columns with one value per training sample.
            workers: DataLoader worker processes.
            name: What to call it in records.

        Raises:
            InputError: See `DatasetSamples` and `Data`.
        """
        train_samples = DatasetSamples(train, workers=workers, name=f"{name} (train)")
        test_samples = DatasetSamples(test, workers=workers, name=f"{name} (test)")
        if classes is None:
            classes = getattr(train, "classes", None)
        if classes is None:
            top = max(int(train_samples.labels.max()), int(test_samples.labels.max()))
            classes = [str(c) for c in range(top + 1)]
        return cls(
            name,
            train_samples,
            test_samples,
            tuple(map(str, classes)),
            None if groups is None else np.asarray(groups),
            {k: np.asarray(v) for k, v in (metadata or {}).items()},
        )


def digits(test_fraction: float = 0.25, normalise: bool = True) -> Data:
    """Return scikit-learn's 1,797 handwritten 8 x 8 digits: embedded, so no network and no files.

    Args:
        test_fraction: Share of each class in the test set; which samples is fixed.
        normalise: Scale pixel values 0..16 to [0, 1].
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x = bunch.images.astype(np.float32)[:, None] / (16 if normalise else 1)
    x_train, x_test, y_train, y_test = train_test_split(
        x, bunch.target, test_size=test_fraction, stratify=bunch.target, random_state=0
    )
    return Data(
        "digits",
        ArraySamples(x_train, y_train),
        ArraySamples(x_test, y_test),
        tuple(map(str, range(10))),
        options={"test_fraction": test_fraction, "normalise": normalise},
    )


def arrays(
    path: str | Path,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Read an .npz with x_train, y_train, x_test, y_test and, if present, groups and meta_* columns.

    uint8 images may be N x H x W x C (C = 1 or 3), N x C x H x W or N x H x W; floats of any shape pass as they are.

    Args:
        path: The .npz file; object arrays are refused, so nothing is unpickled.
        classes: Class names; otherwise the numbers up to the largest label.
        mean: Per-channel mean to subtract after scaling to [0, 1].
        std: Per-channel divisor.

    Raises:
        InputError: The file is missing, is not such an .npz, or its arrays do not fit together.
    """
    import zipfile

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path}; needed: an .npz with x_train, y_train, x_test, y_test")
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {k: file[k] for k in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is not a readable .npz of plain arrays: {error}") from None
    missing = [k for k in ("x_train", "y_train", "x_test", "y_test") if k not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(content))}")
    train = ArraySamples(_channels_first(content["x_train"]), content["y_train"], mean, std)
    test = ArraySamples(_channels_first(content["x_test"]), content["y_test"], mean, std)
    top = max(int(train.labels.max()), int(test.labels.max()))
    return Data(
        path.stem,
        train,
        test,
        tuple(classes) if classes is not None else tuple(str(c) for c in range(top + 1)),
        content.get("groups"),
        {k.removeprefix("meta_"): v for k, v in content.items() if k.startswith("meta_")},
        options={"classes": classes, "mean": mean, "std": std},
    )


def _channels_first(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.uint8:
        return x
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x


def _vision(name: str) -> Callable[..., Data]:
    def source(**options: Any) -> Data:
        vision = importlib.import_module("efface.data.vision")
        found: Data = getattr(vision, name)(**options)
        return found

    source.__name__ = name
    source.__doc__ = f"See `efface.data.vision.{name}`; torchvision is imported only then."
    return source


SOURCES: dict[str, Callable[..., Data]] = {
    "digits": digits,
    "arrays": arrays,
    **{name: _vision(name) for name in ("mnist", "cifar10", "cifar100", "image_folder")},
}
"""Every source by the name that the command line and plans use."""

_WITHOUT_ROOT = {"digits"}


def load(name: str, root: str | Path | None = None, download: bool = False, **options: Any) -> Data:
    """Load a data set by name.

    Args:
        name: One of `SOURCES`.
        root: Folder of the data (a file for `arrays`); digits needs none.
        download: Allow torchvision to fetch what is missing.
        options: Passed to the source, e.g. `normalise=False`.

    Raises:
        InputError: The name or an option is unknown, or the source cannot be read.
    """
    if name not in SOURCES:
        raise InputError(f"unknown data {name!r}. {nearest(name, SOURCES)}")
    if name in _WITHOUT_ROOT:
        arguments = dict(options)
    elif root is None:
        raise InputError(f"data {name!r} needs a root: the folder (or .npz file) it is read from")
    elif name == "arrays":
        arguments = {"path": root, **options}
    elif name == "image_folder":
        arguments = {"root": root, **options}
    else:
        arguments = {"root": root, "download": download, **options}
    try:
        return dataclasses.replace(SOURCES[name](**arguments), source=name)
    except TypeError as error:
        raise InputError(f"data {name!r}: {error}") from None
