"""Columns of tables: labels as class numbers, plain values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from efface.data.sources.columns import class_numbers_of, column_of, plain
from efface.errors import InputError


def test_whole_numbers_stand_for_themselves_and_amounts_are_doubted() -> None:
    train, test = np.array([0, 2, 1]), np.array([2, 0])
    assert class_numbers_of(train, test, None) == ([0, 2, 1], [2, 0], ("0", "1", "2"))
    with pytest.raises(InputError, match="reach down to -1"):
        class_numbers_of(np.array([-1, 0]), np.array([0]), None)
    with pytest.raises(InputError, match="labels reach up to 1000000000"):
        class_numbers_of(np.array([0, 10**9]), np.array([0]), None)


def test_gaps_and_doubled_columns_are_refused() -> None:
    table = pd.DataFrame([[1, None], [2, 3]], columns=["a", "b"])
    with pytest.raises(InputError, match="here: column 'b' lacks 1 value, the first in row 1"):
        column_of(table, "b", "here")
    with pytest.raises(InputError, match="the column 'a' 2 times"):
        column_of(pd.DataFrame([[1, 2]], columns=["a", "a"]), "a", "here")
    assert plain(pd.Series(["x", None, float("nan")])).tolist() == ["x", "", ""]
