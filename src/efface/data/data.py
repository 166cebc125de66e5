"""Train and test samples with what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from efface.data.samples import DatasetSamples, Samples
from efface.errors import InputError

__all__ = ["Data"]


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
