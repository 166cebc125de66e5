"""Images that a table lists: requests by what it says of them, and what it may not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from efface.data import load
from efface.errors import InputError
from efface.request import Request
from tests.data.sources.layouts import everything


def table_of(root: Path, part: str) -> pd.DataFrame:
    files = sorted((root / part).rglob("*.png"))
    return pd.DataFrame(
        {
            "path": [f.relative_to(root).as_posix() for f in files],
            "label": [f.parent.name for f in files],
            "subject": [f"p{i % 3}" for i in range(len(files))],
            "year": [2018 + i for i in range(len(files))],
            "note": ["", None, "x", "y", "z", "w"][: len(files)],
        }
    )


@pytest.fixture
def listed(pictures: Any) -> Path:
    root, _ = pictures
    for part in ("train", "test"):
        table_of(root, part).to_csv(root / f"{part}.csv", index=False)
    return root


@pytest.mark.parametrize("kind", ["csv", "parquet", "one"])
@pytest.mark.parametrize("memory_gib", [1.0, 0.0], ids=["kept", "lazy"])
def test_rows_give_images_labels_groups_ids_and_metadata(pictures: Any, kind: str, memory_gib: float) -> None:
    root, colours = pictures
    tables = {part: table_of(root, part) for part in ("train", "test")}
    if kind == "one":
        both = pd.concat([t.assign(split=part) for part, t in tables.items()])
        both.sample(frac=1, random_state=0).sort_values("path").to_csv(root / "manifest.csv", index=False)
    else:
        for part, table in tables.items():
            getattr(table, f"to_{kind}")(root / f"{part}.{kind}", index=False)
    data = load("manifest", root, size=8, normalise=False, groups="subject", memory_gib=memory_gib)
    assert data.classes == ("cat", "dog")
    expected = torch.tensor(colours["train"])[:, :, None, None].expand(-1, 3, 8, 8) / 255
    torch.testing.assert_close(everything(data.train), expected)
    assert data.ids is not None
    assert data.ids.tolist() == tables["train"]["path"].tolist()
    for request, rows in (
        (Request.of(groups=["p1"]), [1, 4]),
        (Request.of(ids=["train/dog/2.png"]), [5]),
        (Request.of(where='subject == "p0" and year < 2020'), [0]),
        (Request.of(where={"year": 2021}), [3]),
    ):
        assert request.resolve(data).indices.tolist() == rows
    assert Request.of(groups=["p1"]).in_test(data) == 1


def test_names_of_classes_give_their_order_and_numbers_stand_for_them(listed: Path) -> None:
    data = load("manifest", listed, size=8, classes=["owl", "dog", "cat"])
    assert data.train.labels.tolist() == [2, 2, 2, 1, 1, 1]
    train = pd.read_csv(listed / "train.csv")
    train["label"] = [0, 0, 0, 1, 1, 1]
    train.to_csv(listed / "train.csv", index=False)
    test = pd.read_csv(listed / "test.csv").assign(label=[0, 0, 1, 1])
    test.to_csv(listed / "test.csv", index=False)
    assert load("manifest", listed, size=8).classes == ("0", "1")
    named = load("manifest", listed, size=8, classes=["cat", "dog"])
    assert (named.classes, named.train.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1, 1])


def changed(root: Path, column: str, row: int, value: object) -> None:
    table = pd.read_csv(root / "train.csv", dtype=object)
    table.loc[row, column] = value
    table.to_csv(root / "train.csv", index=False)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("path", "../secret.png", r"1 path is not below .*'\.\./secret\.png'"),
        ("path", "train/../../secret.png", "1 path is not below"),
        ("path", "/etc/hostname", "1 path is not below"),
        ("path", "train/cat/0.png", r"lists 1 image more than once: train/cat/0\.png"),
        ("path", "./train//cat/0.png", r"lists 1 image more than once: train/cat/0\.png"),
        ("path", "train/cat/9.png", r"1 image cannot be used: train/cat/9\.png .*No such file"),
        ("path", None, "column 'path' lacks 1 value, the first in row 3"),
        ("label", None, "column 'label' lacks 1 value, the first in row 3"),
    ],
)
def test_bad_rows_are_named(listed: Path, column: str, value: object, said: str) -> None:
    changed(listed, column, 2, value)
    with pytest.raises(InputError, match=said):
        load("manifest", listed, size=8)


def test_labels_that_are_no_class_are_named(listed: Path) -> None:
    with pytest.raises(InputError, match="the training set has 1 label that is no class: dog; the classes are cat"):
        load("manifest", listed, size=8, classes=["cat", "owl"])
    changed(listed, "label", 3, "doge")
    assert load("manifest", listed, size=8).classes == ("cat", "dog", "doge")
    (listed / "test.csv").write_text((listed / "test.csv").read_text().replace(",dog,", ",wolf,"))
    with pytest.raises(InputError, match="the test set has the classes wolf, which no training sample has"):
        load("manifest", listed, size=8)
    with pytest.raises(InputError, match="given twice"):
        load("manifest", listed, size=8, classes=["cat", "cat"])


def test_ids_of_a_column_are_each_their_own(listed: Path) -> None:
    table = pd.read_csv(listed / "train.csv", dtype=object).assign(code=["007", "008", "9", "a", "a", "b"])
    table.to_csv(listed / "train.csv", index=False)
    with pytest.raises(InputError, match=r"1 id stands more than once, e\.g\. a"):
        load("manifest", listed, size=8, ids="code")
    changed(listed, "code", 4, "c")
    data = load("manifest", listed, size=8, ids="code")
    assert Request.of(ids=["007"]).resolve(data).indices.tolist() == [0]


def test_links_out_of_the_root_are_refused(listed: Path, tmp_path_factory: Any) -> None:
    secret = tmp_path_factory.mktemp("elsewhere")
    (listed / "train" / "cat" / "0.png").rename(secret / "0.png")
    (listed / "out").symlink_to(secret)
    changed(listed, "path", 0, "out/0.png")
    with pytest.raises(InputError, match=r"1 path is not below .* a link out of it\): 'out/0\.png'"):
        load("manifest", listed, size=8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read as a table"),
        ("path,label\n", "lists no image"),
        ("file,label\na.png,cat\n", r"no column 'path'. .*Allowed: file, label"),
        ('path,label\n"a', "cannot be read as a table"),
    ],
)
def test_tables_that_are_none_are_refused(listed: Path, content: str, said: str) -> None:
    (listed / "train.csv").write_text(content)
    with pytest.raises(InputError, match=said):
        load("manifest", listed, size=8)


def test_a_folder_without_a_manifest_is_told_what_is_needed(listed: Path) -> None:
    (listed / "test.csv").unlink()
    with pytest.raises(InputError, match="no manifest in"):
        load("manifest", listed, size=8)
    pd.DataFrame({"path": ["a"], "label": ["b"], "split": ["dev"]}).to_csv(listed / "manifest.csv")
    with pytest.raises(InputError, match="'split' holds dev; allowed: train, test"):
        load("manifest", listed, size=8)


def test_images_that_are_missing_are_left_out_on_request(listed: Path) -> None:
    changed(listed, "path", 2, "train/cat/9.png")
    data = load("manifest", listed, size=8, skip_bad=True, groups="subject")
    assert data.skipped == ("train/cat/9.png",)
    assert data.groups is not None
    assert data.groups.tolist() == ["p0", "p1", "p0", "p1", "p2"]
    assert np.array_equal(data.metadata["year"], [2018, 2019, 2021, 2022, 2023])
