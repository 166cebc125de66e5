"""Train and test samples with what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from efface.data.canaries import Planted
from efface.data.labels import class_names
from efface.data.samples import ArraySamples, DatasetSamples, Samples, Select
from efface.data.table import encoded
from efface.errors import InputError
from efface.notebook import card
from efface.words import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Data"]

SHOWN = 8
"""Most classes that its words name."""


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Train and test samples with class names and, where known, a group id and metadata per training item.

    Attributes:
        name: What it is called, e.g. `digits`.
        train: Training samples.
        test: Test samples.
        classes: Class names; the position is the class number.
        groups: One id per training sample (a person, a device), or None.
        test_groups: The same for the test set, to say which of the records asked for no training has seen.
        metadata: Columns of one value per training sample, for requests with `where`.
        ids: One id per training sample, each its own (an image's path, a row's id), or None.
        options: The arguments the source was loaded with, for the record; never a path of this machine.
        source: The name that `load` knows it by, or `custom`.
        canaries: Those that follow the data's own training records, or None; see `efface.data.planted`.
        skipped: Names of samples that were left out because they cannot be read.

    Example:
        >>> import efface, torch
        >>> from torch.utils.data import TensorDataset
        >>> pairs = TensorDataset(torch.rand(8, 4), torch.arange(8) % 2)
        >>> data = efface.Data.of(pairs, pairs, classes=["no", "yes"], groups=list("aabbccdd"))
        >>> len(data.train), data.input_shape, data.classes
        (8, (4,), ('no', 'yes'))
    """

    name: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    metadata: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = "custom"
    ids: np.ndarray | None = None
    test_groups: np.ndarray | None = None
    canaries: Planted | None = None
    skipped: tuple[str, ...] = ()

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
        if self.train.input_dtype != self.test.input_dtype:
            raise InputError(f"training inputs are {self.train.input_dtype}, test inputs {self.test.input_dtype}")
        for name, column in {"groups": self.groups, "ids": self.ids, **self.metadata}.items():
            if column is not None and len(column) != len(self.train):
                raise InputError(
                    f"{name} has {len(column)} entries; needed: {len(self.train)}, one per training sample"
                )
        if self.groups is not None:
            object.__setattr__(self, "groups", _of_one_type(self.groups, "groups"))
        if self.ids is not None:
            ids = _of_one_type(self.ids, "ids").astype(str)
            values, counts = np.unique(ids, return_counts=True)
            if len(values) < len(ids):
                raise InputError(
                    f"{counted(int((counts > 1).sum()), 'id stands', 'ids stand')} more than once, e.g. "
                    f"{values[counts > 1][0]}; ids name one "
                    "sample each. For several samples of one person give groups"
                )
            object.__setattr__(self, "ids", ids)
        if self.test_groups is not None:
            if len(self.test_groups) != len(self.test):
                raise InputError(f"test_groups has {len(self.test_groups)} entries; needed: {len(self.test)}")
            object.__setattr__(self, "test_groups", _of_one_type(self.test_groups, "test_groups"))

    def __repr__(self) -> str:
        """Return one line: sizes, shape, classes, and what is known of the records."""
        return f"<Data {self.name!r}: {'; '.join(f'{k} {v}' for k, v in self._facts().items() if v)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return card(f"Data {self.name}", self._facts())

    def _facts(self) -> dict[str, str]:
        shown = ", ".join(self.classes[:SHOWN]) + (", ..." if len(self.classes) > SHOWN else "")
        kinds = {"ids": self.ids, "groups": self.groups}
        known = [name for name, column in kinds.items() if column is not None] + list(self.metadata)
        return {
            "records": f"{len(self.train):,} for training, {len(self.test):,} for testing",
            "inputs": f"{' x '.join(map(str, self.input_shape))} {str(self.input_dtype).removeprefix('torch.')}",
            "classes": f"{len(self.classes)} ({shown})",
            "known of each": ", ".join(known),
            "canaries": "" if self.canaries is None else str(len(self.train) - self.own_size),
            "skipped": str(len(self.skipped)) if self.skipped else "",
        }

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return self.train.input_shape

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of network inputs: float32, or int64 for token ids."""
        return self.train.input_dtype

    @property
    def train_labels(self) -> np.ndarray:
        """Training labels as a numpy array."""
        return np.asarray(self.train.labels.numpy())

    @property
    def own_size(self) -> int:
        """Training samples without canaries."""
        return len(self.train) if self.canaries is None else self.canaries.first

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
        test_groups: Sequence[Any] | np.ndarray | None = None,
        select: Select | None = None,
        ids: Sequence[Any] | np.ndarray | None = None,
    ) -> Data:
        """Wrap any two map-style datasets of (input tensor, label) pairs.

        Inputs of integers other than uint8 are token ids and stay int64; all others reach the network as float32.

        Args:
            train: Training set; it keeps doing its own transforms.
            test: Test set.
            classes: Class names; otherwise `train.classes`, otherwise the numbers up to the largest label (see
                `class_names`, which doubts labels that look like amounts).
            groups: One id per training sample.
            metadata: Columns with one value per training sample.
            workers: DataLoader worker processes.
            name: What to call it in records.
            test_groups: One id per test sample, to count records asked for that were never trained on.
            select: From what the datasets yield to (input tensor, label), where that is more than a pair, e.g.
                `lambda sample: (sample["image"], sample["label"])`.
            ids: One id per training sample, each its own, for requests with `ids`.

        Raises:
            InputError: See `DatasetSamples`, `class_names` and `Data`.
        """
        train_samples = DatasetSamples(train, workers=workers, name=f"{name} (train)", select=select)
        test_samples = DatasetSamples(test, workers=workers, name=f"{name} (test)", select=select)
        if classes is None:
            classes = getattr(train, "classes", None)
        return cls(
            name,
            train_samples,
            test_samples,
            class_names(classes, train_samples.labels, test_samples.labels),
            None if groups is None else _as_given(groups),
            {k: np.asarray(v) for k, v in (metadata or {}).items()},
            ids=None if ids is None else _as_given(ids),
            test_groups=None if test_groups is None else _as_given(test_groups),
        )

    @classmethod
    def of_table(
        cls,
        train: pd.DataFrame,
        test: pd.DataFrame,
        label: str,
        *,
        groups: str | None = None,
        ids: str | None = None,
        metadata: Sequence[str] = (),
        standardise: bool = True,
        name: str = "table",
    ) -> Data:
        """Make network inputs of two pandas tables; see `efface.data.table.encoded` for the encoding.

        Args:
            train: One row per training sample.
            test: One row per test sample.
            label: Column of the class: names, or whole numbers.
            groups: Column of who a row belongs to, for requests with `groups`.
            ids: Column that names each row, for requests with `ids`.
            metadata: Columns for requests with `where`; they are not features.
            standardise: Scale numeric columns to mean 0 and variance 1 of the training table.
            name: What to call it in records.

        Returns:
            Data with inputs (d,) float32, in the order of the columns: numeric ones first, then one-hot categories.

        Raises:
            InputError: A column is missing or lacks values, or the test table has classes of its own.
        """
        made = encoded(train, test, label, groups=groups, ids=ids, metadata=metadata, standardise=standardise)
        samples = [ArraySamples(*pair) for pair in (made.train, made.test)]
        return cls(name, samples[0], samples[1], made.classes, made.groups, made.metadata, ids=made.ids)


def _as_given(column: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return a column with the types that its values have; of a list, NumPy would make one type, and 7 the text "7"."""
    if not isinstance(column, list | tuple):
        return np.asarray(column)
    return np.asarray([v.item() if isinstance(v, np.generic) else v for v in column], dtype=object)


def _of_one_type(column: np.ndarray, name: str) -> np.ndarray:
    """Return one id per sample as integers or strings.

    Raises:
        InputError: Ids are missing, or of several types: 7 and "7" could be one person or two; or they are integers
            beyond 64 bits.
    """
    kinds = sorted({type(v).__name__ for v in column.ravel().tolist()})
    if column.ndim != 1:
        raise InputError(f"{name} have shape {column.shape}; needed: one id per training sample")
    missing = [i for i, v in enumerate(column.tolist()) if v is None or v != v]
    if missing:
        raise InputError(
            f"{name}: {counted(len(missing), 'sample has', 'samples have')} no id (None or NaN), the first at "
            f"position {missing[0]}; give each "
            'one, e.g. "unknown"'
        )
    if len(kinds) > 1 or kinds not in (["int"], ["str"]):
        raise InputError(
            f"{name} are of type {', '.join(kinds)}; needed: all int or all str, e.g. [str(g) for g in {name}]"
        )
    if kinds == ["str"]:
        return column.astype(str)
    if large := next((v for v in column.tolist() if not -(2**63) <= v < 2**63), None):
        raise InputError(f"{name} hold {large}, which takes more than 64 bits; give texts: [str(g) for g in {name}]")
    return column.astype(np.int64)
