"""Arrays from a .npz file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efface.data import load
from efface.errors import InputError

BLOCK: dict[str, Any] = {
    "x_train": np.random.default_rng(0).integers(0, 256, (8, 5, 5), dtype=np.uint8),
    "y_train": np.arange(8) % 2,
    "x_test": np.zeros((4, 5, 5), dtype=np.uint8),
    "y_test": np.arange(4) % 2,
}


def saved(tmp_path: Path, **changes: Any) -> Path:
    content = {k: v for k, v in {**BLOCK, **changes}.items() if v is not None}
    np.savez(tmp_path / "data.npz", **content)
    return tmp_path / "data.npz"


def test_arrays_with_groups_and_metadata(tmp_path: Path) -> None:
    path = saved(tmp_path, groups=np.arange(8) // 2, meta_year=np.arange(8))
    data = load("arrays", path, classes=["even", "odd"], mean=[0.5], std=[0.25])
    assert data.input_shape == (1, 5, 5)
    assert data.classes == ("even", "odd")
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(data.metadata) == ["year"]
    assert str(tmp_path) not in json.dumps(data.options)
    x = next(iter(data.train.read([torch.tensor([0])])))
    expected = (BLOCK["x_train"][0] / 255 - 0.5) / 0.25
    assert x[0, 0].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 6, 6, 3), (3, 6, 6)), ((8, 3, 6, 6), (3, 6, 6)), ((8, 6, 6), (1, 6, 6))]
)
def test_pixel_axes_are_brought_in_order(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = load("arrays", saved(tmp_path, x_train=x, x_test=x[:4]))
    assert data.input_shape == expected
    got = next(iter(data.train.read([torch.tensor([1])])))[0]
    wanted = x[1].transpose(2, 0, 1) if shape[-1] == 3 else x[1]
    assert got.squeeze(0).numpy() == pytest.approx(wanted / 255, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_test": None}, "lacks y_test"),
        ({"y_train": np.zeros(3, dtype=int)}, r"labels have shape \(3,\)"),
        ({"x_test": np.zeros((4, 6, 6), dtype=np.uint8)}, "test inputs"),
        ({"groups": np.arange(3)}, "groups has 3 entries; needed: 8"),
        ({"meta_year": np.arange(3)}, "year has 3 entries"),
        ({"y_train": np.zeros(8, dtype=int), "y_test": np.zeros(4, dtype=int)}, "at least 2"),
        ({"x_train": np.array([None] * 8, dtype=object)}, "not a readable .npz of plain arrays"),
        ({"x_train": np.full((8, 3), np.nan), "x_test": np.zeros((4, 3))}, "NaN"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load("arrays", saved(tmp_path, **changes))


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"not a zip", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a readable"):
            load("arrays", path)
    with pytest.raises(InputError, match="no file at"):
        load("arrays", tmp_path / "none.npz")
