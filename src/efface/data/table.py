"""Tables as network inputs: numbers as they are, categories one-hot, labels numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.data.labels import class_names, class_numbers
from efface.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "encoded"]


@dataclass(frozen=True)
class Table:
    """Two tables made ready for a network.

    Attributes:
        train: (inputs (N, d) float32, class numbers (N,)) of the training table.
        test: The same of the test table.
        classes: Class names in the order of their numbers.
        features: What each of the d inputs is, e.g. `age` or `city=Bern`.
        groups: One id per training row, or None.
        ids: One id per training row, or None.
        metadata: Columns with one value per training row.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...]
    features: tuple[str, ...]
    groups: np.ndarray | None
    ids: np.ndarray | None
    metadata: Mapping[str, np.ndarray]


def encoded(
    train: pd.DataFrame,
    test: pd.DataFrame,
    label: str,
    *,
    groups: str | None = None,
    ids: str | None = None,
    metadata: Sequence[str] = (),
    standardise: bool = True,
) -> Table:
    """Encode two tables; whatever is learnt from values is learnt from the training table alone.

    Every column that is neither label, groups, ids nor metadata is a feature. Numbers and truth values stay numbers,
    standardised to mean 0 and variance 1 on request; everything else is one-hot (scikit-learn's OneHotEncoder), and a
    category that only the test table has is all zeros.

    Args:
        train: One row per training sample.
        test: One row per test sample, with at least the columns of features and label.
        label: Column of the class: names, or whole numbers.
        groups: Column of who a row belongs to.
        ids: Column that names each row.
        metadata: Columns for requests with `where`; not features.
        standardise: Subtract the training mean of numeric columns and divide by the standard deviation.

    Raises:
        InputError: A column is missing, holds missing values, or the test table has a class that the training table
            lacks.
    """
    import pandas as pd

    _check_columns(train, [label, groups, ids, *metadata], "training")
    aside = {label, groups, ids, *metadata}
    features = [str(c) for c in train.columns if c not in aside]
    if not features:
        raise InputError("the training table has no column of features beside label, groups, ids and metadata")
    _check_columns(test, [label, *features], "test")
    numeric = [c for c in features if pd.api.types.is_numeric_dtype(train[c])]
    both = [frame[[label, *features]] for frame in (train, test)]
    for part, frame in zip(("training", "test"), both, strict=True):
        _check_missing(frame, part, numeric)
    x, names = _inputs(both[0], both[1], numeric, [c for c in features if c not in numeric], standardise)
    _check_label(both[0][label], label)
    classes = sorted(both[0][label].unique().tolist())
    unknown = sorted(set(both[1][label].unique().tolist()) - set(classes), key=str)
    if unknown:
        raise InputError(f"the test table has the classes {unknown[:5]}, which no training row has")
    numbers = {c: i for i, c in enumerate(classes)}
    y = [frame[label].map(numbers).to_numpy(np.int64) for frame in both]
    columns = {str(c): _plain(train[c]) for c in metadata}
    who, names_of_rows = (None if c is None else _plain(train[c]) for c in (groups, ids))
    return Table((x[0], y[0]), (x[1], y[1]), tuple(map(str, classes)), tuple(names), who, names_of_rows, columns)


def _inputs(
    train: pd.DataFrame, test: pd.DataFrame, numeric: list[str], others: list[str], standardise: bool
) -> tuple[list[np.ndarray], list[str]]:
    """Return both tables' inputs and what each is."""
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    blocks: list[tuple[Any, Any]] = []
    names = list(numeric)
    if numeric:
        values = [frame[numeric].to_numpy(np.float64) for frame in (train, test)]
        if standardise:
            scaler = StandardScaler().fit(values[0])
            values = [scaler.transform(v) for v in values]
        blocks.append((values[0], values[1]))
    if others:
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, feature_name_combiner=_named)
        text = [frame[others].astype(str) for frame in (train, test)]
        blocks.append((encoder.fit_transform(text[0]), encoder.transform(text[1])))
        names += encoder.get_feature_names_out().tolist()
    parts = [np.concatenate([block[i] for block in blocks], axis=1).astype(np.float32) for i in (0, 1)]
    return parts, names


def _named(column: str, category: Any) -> str:
    return f"{column}={category}"


def _check_columns(frame: pd.DataFrame, wanted: Sequence[str | None], part: str) -> None:
    have = [str(c) for c in frame.columns]
    for column in wanted:
        if column is not None and column not in have:
            raise InputError(f"the {part} table has no column {column!r}. {nearest(column, have)}")


def _check_label(column: pd.Series[Any], name: str) -> None:
    """Refuse amounts: broken numbers, or many whole ones with gaps (see `class_names`)."""
    values = column.to_numpy()
    if values.dtype.kind in "iuf" and values.min() >= 0:
        class_names(None, class_numbers(values, len(values), f"column {name!r}"))


def _check_missing(frame: pd.DataFrame, part: str, numeric: Sequence[str]) -> None:
    missing = {str(c): int(frame[c].isna().sum()) for c in frame.columns}
    missing |= {c: int((~np.isfinite(frame[c].to_numpy(np.float64, na_value=np.nan))).sum()) for c in numeric}
    found = {c: n for c, n in missing.items() if n}
    if found:
        raise InputError(
            f"the {part} table lacks values (or holds infinite ones): "
            f"{', '.join(f'{c} ({n})' for c, n in list(found.items())[:8])}. Fill them or leave the rows out, as when "
            "the model was trained"
        )


def _plain(column: pd.Series[Any]) -> np.ndarray:
    """Return a column as numbers or texts of numpy's own types."""
    values = column.to_numpy()
    return values if values.dtype.kind in "iufb" else np.asarray(values.tolist())
