"""Data by name, from arrays, and from torch Datasets."""

from __future__ import annotations

from typing import Any

import pytest

from efface.data import load
from efface.errors import InputError


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("digit", {}, "Did you mean 'digits'"),
        ("mnist", {}, "needs a root"),
        ("digits", {"normalize": True}, "normalize"),
        ("arrays", {"root": "x", "shape": 3}, "shape"),
    ],
)
def test_unknown_names_and_options_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(name, **options)
