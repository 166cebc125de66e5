"""What tables that describe samples have in common: labels by name or number, and plain columns for requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.data.labels import class_names, class_numbers
from efface.errors import InputError, nearest
from efface.words import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "class_numbers_of", "column_of", "plain", "read_table", "values_of"]

KINDS = (".csv", ".parquet")


def read_table(file: Path, text: Sequence[str] = ()) -> pd.DataFrame:
    """Read one table by pandas.

    Args:
        file: A .csv or .parquet file.
        text: Columns of a .csv that are text whatever they look like, such as paths and ids.

    Raises:
        InputError: It cannot be read.
    """
    import pandas as pd

    try:
        if file.suffix == ".csv":
            return pd.read_csv(file, dtype=dict.fromkeys(text, str))
        return pd.read_parquet(file)
    except (ValueError, OSError, ImportError, TypeError, LookupError, MemoryError, OverflowError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]  # pandas' and Arrow's errors are ValueErrors
        raise InputError(f"{file} cannot be read as a table: {first}") from error


def column_of(table: pd.DataFrame, name: str, where: str) -> pd.Series[Any]:
    """Return a column without gaps.

    Raises:
        InputError: It does not exist, stands twice, or lacks values.
    """
    have = [str(c) for c in table.columns]
    if name not in have:
        raise InputError(f"{where} has no column {name!r}. {nearest(name, have)}")
    if have.count(name) > 1:
        raise InputError(f"{where} has the column {name!r} {have.count(name)} times; name each once")
    column = table[name]
    missing = np.flatnonzero(column.isna().to_numpy())
    if len(missing):
        raise InputError(
            f"{where}: column {name!r} lacks {counted(len(missing), 'value')}, the first in row {int(missing[0]) + 1}"
        )
    return column


def plain(column: pd.Series[Any]) -> np.ndarray:
    """Return a column as numbers or text of numpy's own types; a gap in text is an empty text."""
    values = column.to_numpy()
    if values.dtype.kind in "iufb":
        return values
    return np.array(["" if v is None or v != v else str(v) for v in values.tolist()])


def values_of(column: pd.Series[Any]) -> np.ndarray:
    """Return labels or groups as whole numbers, if they are, or else as text."""
    values = column.to_numpy()
    return values.astype(np.int64) if values.dtype.kind in "iu" else np.array([str(v) for v in values.tolist()])


def class_numbers_of(
    train: np.ndarray, test: np.ndarray, classes: Sequence[str] | None
) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Return class numbers of both parts, and the class names.

    Without `classes`, names are sorted as texts; whole numbers from 0 stand for themselves.

    Args:
        train: Labels of the training samples, as `values_of` returns them.
        test: Labels of the test samples.
        classes: Class names in the order of the model's outputs.

    Raises:
        InputError: A label is not among the names, or only the test set has it.
    """
    numbers = train.dtype.kind == "i" and test.dtype.kind == "i"
    if classes is None:
        only = sorted(set(map(str, test.tolist())) - set(map(str, train.tolist())))
        if only:
            raise InputError(
                f"the test set has the classes {', '.join(only[:8])}, which no training sample has; leave them out, or "
                "name all classes: classes=[...]"
            )
        known = [str(v) for v in np.unique(train.astype(str))]
        if numbers:
            known = list(class_names(None, *(class_numbers(part, len(part)) for part in (train, test))))
    else:
        known = list(map(str, classes))
        if len(set(known)) < len(known):
            raise InputError("class names are given twice; name each class once")
    place = {name: i for i, name in enumerate(known)}
    if numbers and classes is not None and not set(map(str, train.tolist())) <= place.keys():
        place = {str(i): i for i in range(len(known))}  # numbers of the named classes
    found: list[list[int]] = []
    for part, labels in (("training", train), ("test", test)):
        missing = sorted({str(v) for v in labels.tolist()} - place.keys())
        if missing:
            raise InputError(
                f"the {part} set has {counted(len(missing), 'label that is', 'labels that are')} no class: "
                f"{', '.join(missing[:8])}; the classes "
                f"are {', '.join(known[:20])}{' ...' if len(known) > 20 else ''}"
            )
        found.append([place[str(v)] for v in labels.tolist()])
    return found[0], found[1], tuple(known)
