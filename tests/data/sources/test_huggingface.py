"""Datasets on disk in the layout of Hugging Face's save_to_disk."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from efface.data import load
from efface.errors import InputError
from efface.request import Request
from efface.running.extras import import_pillow
from tests.data.sources.layouts import everything


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    import_pillow().new("RGB", (9, 9), (level, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def write(root: Path, part: str, columns: dict[str, Any], features: dict[str, Any], chunks: int = 2) -> None:
    """Write a split by hand, as `save_to_disk` lays it out."""
    folder = root / part
    folder.mkdir(parents=True)
    table, names = pa.table(columns), []
    for k, rows in enumerate(np.array_split(np.arange(len(table)), chunks)):
        names.append(f"data-{k:05d}-of-{chunks:05d}.arrow")
        with pa.OSFile(str(folder / names[-1]), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.take(rows))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


NAMES = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}


def pictures(root: Path, n: int = 6, bad: int | None = None) -> Path:
    for part in ("train", "test"):
        held = [{"bytes": b"x" if i == bad and part == "train" else png(20 * i), "path": None} for i in range(n)]
        people = [f"p{i // 2}" for i in range(n)]
        columns = {"image": held, "label": [i % 2 for i in range(n)], "subject": people, "year": list(range(n))}
        write(root, part, columns, NAMES)
    return root


@pytest.mark.parametrize("memory_gib", [1.0, 0.0], ids=["kept", "lazy"])
def test_images_labels_groups_and_metadata_are_read(tmp_path: Path, memory_gib: float) -> None:
    data = load("huggingface", pictures(tmp_path), size=4, normalise=False, groups="subject", memory_gib=memory_gib)
    assert data.classes == ("no", "yes")
    assert data.train.labels.tolist() == [0, 1] * 3
    torch.testing.assert_close(everything(data.train)[:, 0, 0, 0] * 255, torch.arange(0, 120, 20).float())
    assert Request.of(groups=["p1"]).resolve(data).indices.tolist() == [2, 3]
    assert Request.of(where="year > 3").resolve(data).indices.tolist() == [4, 5]
    if memory_gib == 0:
        again = load("huggingface", tmp_path, size=4, normalise=False, workers=1, memory_gib=0)
        torch.testing.assert_close(everything(again.train), everything(data.train))


def test_bad_images_are_named_by_split_and_row(tmp_path: Path) -> None:
    pictures(tmp_path, bad=3)
    with pytest.raises(InputError, match=r"1 image cannot be used: train\[3\] is corrupt"):
        load("huggingface", tmp_path, size=4)
    data = load("huggingface", tmp_path, size=4, skip_bad=True)
    assert data.skipped == ("train[3]",)
    assert data.metadata["year"].tolist() == [0, 1, 2, 4, 5]


def test_token_ids_and_vectors_are_read_and_must_be_of_one_length(tmp_path: Path) -> None:
    for part in ("train", "test"):
        columns = {"input_ids": [[i, i + 1, 0] for i in range(4)], "label": ["b", "a"] * 2, "row": list("wxyz")}
        write(tmp_path, part, columns, {})
    data = load("huggingface", tmp_path, ids="row")
    assert (data.input_dtype, data.input_shape, data.classes) == (torch.int64, (3,), ("a", "b"))
    assert Request.of(ids=["y"]).resolve(data).indices.tolist() == [2]
    ragged = tmp_path / "ragged"
    for part in ("train", "test"):
        write(ragged, part, {"input_ids": [[1], [1, 2]], "label": [0, 1]}, {})
    with pytest.raises(InputError, match=r"of lengths 1 to 2; needed: .*pad"):
        load("huggingface", ragged)


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'train', it holds none"):
        load("huggingface", tmp_path)
    pictures(tmp_path)
    with pytest.raises(InputError, match=r"no split 'dev', it holds test, train"):
        load("huggingface", tmp_path, test="dev")
    with pytest.raises(InputError, match=r"no column 'person'. .*Allowed: image, label, subject, year"):
        load("huggingface", tmp_path, size=4, groups="person")
    other = tmp_path / "other"
    for part in ("train", "test"):
        write(other, part, {"image": [1], "kind": [0]}, {}, chunks=1)
    with pytest.raises(InputError, match="which column holds the label"):
        load("huggingface", other)
    state = tmp_path / "train" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../test/data-00000-of-00002.arrow"}]}))
    with pytest.raises(InputError, match="names no Arrow files beside it"):
        load("huggingface", tmp_path, size=4)
    state.write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00002.arrow"}]}))
    (tmp_path / "train" / "data-00000-of-00002.arrow").write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="Arrow files cannot be read"):
        load("huggingface", tmp_path, size=4)


@pytest.mark.slow
def test_what_the_package_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [import_pillow().new("RGB", (9, 9), (20 * i, 0, 0)) for i in range(6)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
    made = datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 3}, features=datasets.Features(kinds))
    datasets.DatasetDict({"train": made, "test": made.select([4, 1])}).save_to_disk(tmp_path / "data")
    data = load("huggingface", tmp_path / "data", size=4, normalise=False)
    assert data.classes == ("no", "yes")
    assert data.test.labels.tolist() == [0, 1]
    torch.testing.assert_close(everything(data.test)[:, 0, 0, 0] * 255, torch.tensor([80.0, 20.0]))
