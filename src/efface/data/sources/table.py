"""Tables in files: CSV or Parquet, read by pandas."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.data.data import Data
from efface.data.sources.columns import KINDS, read_table
from efface.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["table"]


def table(
    root: str | Path,
    label: str,
    groups: str | None = None,
    ids: str | None = None,
    metadata: Sequence[str] = (),
    standardise: bool = True,
) -> Data:
    """Read ROOT/train.csv and ROOT/test.csv (or .parquet); see `Data.of_table`.

    Args:
        root: Folder that holds both tables.
        label: Column of the class.
        groups: Column of who a row belongs to, for requests with `groups`.
        ids: Column that names each row, for requests with `ids`.
        metadata: Columns for requests with `where`; they are not features.
        standardise: Scale numeric columns to mean 0 and variance 1 of the training table.

    Raises:
        InputError: A file is missing or cannot be read, or as `Data.of_table`.
    """
    train, test = (_read(Path(root), part) for part in ("train", "test"))
    data = Data.of_table(
        train, test, label, groups=groups, ids=ids, metadata=metadata, standardise=standardise, name=Path(root).name
    )
    options = {"label": label, "groups": groups, "ids": ids, "metadata": list(metadata), "standardise": standardise}
    return dataclasses.replace(data, options=options)


def _read(root: Path, part: str) -> pd.DataFrame:
    """Read one of both tables."""
    file = next((root / f"{part}{kind}" for kind in KINDS if (root / f"{part}{kind}").is_file()), None)
    if file is None:
        raise InputError(f"no {part} table in {root}; needed: {' or '.join(f'{part}{kind}' for kind in KINDS)}")
    return read_table(file)
