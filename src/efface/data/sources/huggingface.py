"""Hugging Face datasets that `save_to_disk` wrote, read by Arrow; the package `datasets` is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.data.data import Data
from efface.data.samples import ArraySamples
from efface.data.sources.columns import class_numbers_of, column_of, plain, values_of
from efface.data.sources.images import Pictures, Preparation, Read, read_pictures
from efface.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["huggingface"]

IMAGES, LABELS = ("image", "img", "pixel_values"), ("label", "labels", "fine_label")
"""Usual names of columns, tried in this order where none is given."""

IDS = "input_ids"


def huggingface(
    root: str | Path,
    inputs: str | None = None,
    label: str | None = None,
    groups: str | None = None,
    ids: str | None = None,
    classes: Sequence[str] | None = None,
    train: str = "train",
    test: str = "test",
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
    """Read a `DatasetDict` that `save_to_disk` wrote: images, token ids of one length, or vectors of numbers.

    Columns of single values beside inputs, label and ids are metadata. How images become inputs: see `image_folder`;
    those that lie in files of their own, outside the Arrow files, are refused.

    Args:
        root: The folder, with one folder per split.
        inputs: Column of the inputs; by default `image`, `img`, `pixel_values` or `input_ids`.
        label: Column of the class; by default `label`, `labels` or `fine_label`.
        groups: Column of who a sample belongs to.
        ids: Column that names each sample; otherwise samples are asked for by position, group or metadata.
        classes: Class names; by default those of the column's `ClassLabel`, or sorted.
        train: Split to train on.
        test: Split to test on.
        size: Height and width of image inputs.
        resize: Shorter side before cutting; without it, `size`.
        memory_gib: Budget for keeping decoded images, in GiB; 0 always reads lazily.
        workers: DataLoader worker processes for lazy reading.
        normalise: Subtract the mean and divide by the standard deviation; otherwise pixels are in [0, 1].
        mean: Per channel, instead of ImageNet's.
        std: Per channel, instead of ImageNet's.
        interpolation: `bilinear` or `bicubic`.
        squash: Resize both sides to `resize`, whatever the image's shape.
        preprocessing: Where these numbers come from, for the record.
        skip_bad: Leave out images that cannot be used; the record lists them.

    Raises:
        InputError: No such split or column, files that are no Arrow, sequences of several lengths, bad images.
    """
    root = Path(root)
    first, second = _parts(root, train, test)
    inputs = inputs or _usual(first, (*IMAGES, IDS), "inputs")
    label = label or _usual(first, LABELS, "label")
    named = classes if classes is not None else first.class_names(label)
    numbers = class_numbers_of(values_of(first.column(label)), values_of(second.column(label)), named)
    options: dict[str, Any] = {"inputs": inputs, "label": label, "groups": groups, "ids": ids, "classes": classes}
    options |= {"train": train, "test": test}
    if first.is_image(inputs):
        preparation = Preparation.of(size, resize, normalise, mean, std, interpolation, squash)
        blobs = [Blobs(root, p.name, inputs) for p in (first, second)]
        pictures = [Pictures(b, labels, preparation) for b, labels in zip(blobs, numbers[:2], strict=True)]
        read = read_pictures(pictures, preparation, memory_gib=memory_gib, workers=workers, skip_bad=skip_bad)
        options |= preparation.options | {"memory_gib": memory_gib, "workers": workers, "skip_bad": skip_bad}
        options |= {"preprocessing": preprocessing}
    else:
        read = [p.read_vectors(inputs, labels) for p, labels in zip((first, second), numbers[:2], strict=True)]
    return Data(
        root.resolve().name,
        read[0].samples,
        read[1].samples,
        numbers[2],
        None if groups is None else values_of(first.column(groups))[read[0].kept],
        first.metadata({inputs, label, ids}, read[0].kept),
        options=options,
        ids=None if ids is None else plain(first.column(ids))[read[0].kept],
        test_groups=None if groups is None else values_of(second.column(groups))[read[1].kept],
        skipped=tuple(read[0].skipped + read[1].skipped),
    )


def _parts(root: Path, train: str, test: str) -> tuple[_Part, _Part]:
    if train == test:
        raise InputError(f"training and test split are both {train!r}; name two")
    return _Part.read(root, train), _Part.read(root, test)


class _Part:
    """One split: its table, mapped from disk, and what the folder says of its columns."""

    def __init__(self, name: str, table: pa.Table, features: Mapping[str, Any], where: str) -> None:
        self.name = name
        self.table = table
        self.features = features
        self.where = where

    @classmethod
    def read(cls, root: Path, name: str) -> _Part:
        folder = _folder(root, name)
        info = _json(folder / "dataset_info.json")
        features = info.get("features")
        return cls(name, _table(folder), features if isinstance(features, dict) else {}, str(folder))

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return some columns as a pandas table."""
        have = self.table.column_names
        for name in columns:
            if name not in have:
                raise InputError(f"{self.where} has no column {name!r}. {nearest(name, have)}")
        frame: pd.DataFrame = self.table.select(list(columns)).to_pandas()
        return frame

    def column(self, name: str) -> pd.Series[Any]:
        """Return one column without gaps."""
        return column_of(self.frame([name]), name, self.where)

    def metadata(self, aside: set[str | None], kept: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of single numbers, truth values or texts, but for some, at the rows kept."""
        import pyarrow as pa

        def single(kind: pa.DataType) -> bool:
            text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
            return text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)

        frame = self.frame([f.name for f in self.table.schema if single(f.type) and f.name not in aside])
        return {str(c): plain(frame[c])[kept] for c in frame.columns}

    def read_vectors(self, column: str, labels: Sequence[int]) -> Read:
        """Return a column of `vectors` as samples."""
        return Read(ArraySamples(self.vectors(column), labels), [], np.arange(len(labels)), [])

    def class_names(self, label: str) -> list[str] | None:
        """Return the names of a `ClassLabel`, if the column is one."""
        said = self.features.get(label)
        names = said.get("names") if isinstance(said, dict) else None
        return [str(n) for n in names] if isinstance(names, list) else None

    def is_image(self, column: str) -> bool:
        """Say whether a column holds encoded images."""
        import pyarrow as pa

        if column not in self.table.column_names:
            raise InputError(f"{self.where} has no column {column!r}. {nearest(column, self.table.column_names)}")
        kind = self.table.schema.field(column).type
        return pa.types.is_struct(kind) and {"bytes", "path"} <= {f.name for f in kind}

    def vectors(self, column: str) -> np.ndarray:
        """Return sequences of numbers, all of one length, (N, L): int64 for integers, else float32."""
        values = self.table.column(column).to_pylist()
        try:
            array = np.array(values)
        except ValueError:
            array = np.empty(0, dtype=object)
        if array.dtype.kind not in "iuf" or array.ndim < 2:
            lengths = sorted({len(v) for v in values if isinstance(v, list)})
            raise InputError(
                f"{self.where}: column {column!r} holds {self.table.schema.field(column).type}"
                + (f" of lengths {lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else "")
                + "; needed: images, or numbers of one length for all samples (pad token ids before saving: "
                "tokenizer(..., padding='max_length', truncation=True))"
            )
        return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


class Blobs:
    """Encoded images in an Arrow column; the table is mapped from disk, again in every process.

    Args:
        root: Folder of the dataset.
        split: Its part.
        column: Column of structs of bytes and a path.
    """

    def __init__(self, root: Path, split: str, column: str) -> None:
        self.where = (root, split, column)
        self._column: Any = None

    @property
    def column(self) -> Any:
        """The column's chunks, opened when first asked for."""
        if self._column is None:
            root, split, name = self.where
            self._column = _table(_folder(root, split)).column(name)
        return self._column

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped table to the other process to open."""
        return {"where": self.where, "_column": None}

    def __len__(self) -> int:
        return len(self.column)

    def name(self, index: int) -> str:
        """Return the split and the position in it."""
        return f"{self.where[1]}[{index}]"

    def open(self, index: int) -> bytes:
        """Return the encoded bytes."""
        held = self.column[index].as_py()
        content = held and held.get("bytes")
        if not content:
            raise InputError(
                f"{self.name(index)} holds no image of its own (a file elsewhere, or nothing); save the dataset with "
                "its images in it: dataset.save_to_disk embeds them"
            )
        return bytes(content)

    def weight(self, index: int) -> int:
        """Return the number of encoded bytes."""
        return len(self.open(index))


def _folder(root: Path, name: str) -> Path:
    parts = sorted(p.parent.name for p in root.glob("*/state.json"))
    if name not in parts:
        said = f"it holds {', '.join(parts)}" if parts else "it holds none"
        alone = (root / "state.json").is_file()
        raise InputError(
            f"{root} has no split {name!r}, {said}; needed: a DatasetDict of two splits written by save_to_disk"
            + (" (this is one Dataset: dataset.train_test_split(0.2).save_to_disk(folder))" if alone else "")
        )
    return root / name


def _table(folder: Path) -> pa.Table:
    """Map the Arrow files of a split that its `state.json` names."""
    import pyarrow as pa

    files = _json(folder / "state.json").get("_data_files")
    listed = [f.get("filename") for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    names = [n for n in listed if isinstance(n, str) and Path(n).name == n]
    if not names or len(names) < len(listed):
        raise InputError(f"{folder / 'state.json'} names no Arrow files beside it; write the dataset by save_to_disk")
    try:
        table = pa.concat_tables([pa.ipc.open_stream(pa.memory_map(str(folder / n))).read_all() for n in names])
        table.validate(full=True)  # offsets that lead out of the file would end the process
        return table
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: the Arrow files cannot be read: {first}") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}; write the dataset by save_to_disk") from None
    return content if isinstance(content, dict) else {}


def _usual(part: _Part, names: Sequence[str], what: str) -> str:
    for name in names:
        if name in part.table.column_names:
            return name
    raise InputError(
        f"{part.where}: which column holds the {what}? Say {what}=NAME (--data-set {what}=NAME); there are "
        f"{', '.join(part.table.column_names)}"
    )
