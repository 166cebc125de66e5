"""Tables as inputs: encoding by hand, what is refused, and the way from files to a request."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from efface.data import Data, load
from efface.errors import InputError
from efface.request import Request

TRAIN = pd.DataFrame(
    {
        "customer": ["C1", "C2", "C1", "C3"],
        "row": [101, 102, 103, 104],
        "year": [2018, 2019, 2020, 2021],
        "age": [20, 30, 40, 50],
        "member": [True, False, True, True],
        "city": ["Bern", "Rome", "Bern", "Oslo"],
        "churn": ["no", "yes", "no", "yes"],
    }
)
TEST = pd.DataFrame({"age": [35, 20], "member": [False, True], "city": ["Paris", "Rome"], "churn": ["yes", "no"]})
ROLES = {"groups": "customer", "ids": "row", "metadata": ["year"]}


def test_inputs_are_those_computed_by_hand() -> None:
    data = Data.of_table(TRAIN, TEST, "churn", **ROLES)
    assert data.classes == ("no", "yes")
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.test.labels.tolist() == [1, 0]
    deviation = np.sqrt(125)  # of 20, 30, 40, 50 around 35, divided by 4
    x = np.stack([data.train[i][0].numpy() for i in range(4)])
    np.testing.assert_allclose(x[:, 0], (np.array([20, 30, 40, 50]) - 35) / deviation, rtol=1e-6)
    np.testing.assert_allclose(x[:, 1], (np.array([1, 0, 1, 1]) - 0.75) / np.sqrt(0.1875), rtol=1e-6)
    assert x[:, 2:].tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]  # Bern, Oslo, Rome
    seen = data.test[0][0]
    assert seen[0] == 0
    assert seen[2:].tolist() == [0, 0, 0], "a city that no training row has"
    plain = Data.of_table(TRAIN, TEST, "churn", **ROLES, standardise=False)
    assert plain.train[1][0].tolist() == [30, 0, 0, 0, 1]


def test_rows_are_asked_for_by_customer_id_and_condition() -> None:
    data = Data.of_table(TRAIN, TEST, "churn", **ROLES)
    for request, expected in (
        (Request.of(groups=["C1"]), [0, 2]),
        (Request.of(ids=["102", "104"]), [1, 3]),
        (Request.of(where="year >= 2020"), [2, 3]),
    ):
        assert request.resolve(data).indices.tolist() == expected


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_give_what_frames_give(kind: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    for part, frame in (("train", TRAIN), ("test", TEST)):
        file = tmp_path / f"{part}.{kind}"
        frame.to_csv(file, index=False) if kind == "csv" else frame.to_parquet(file)
    data = load("table", tmp_path, label="churn", **ROLES)
    assert data.fingerprint == Data.of_table(TRAIN, TEST, "churn", **ROLES).fingerprint
    assert data.source == "table"
    assert load("table", tmp_path, **data.options).fingerprint == data.fingerprint
    with pytest.raises(InputError, match=r"no column 'chrun'. Did you mean 'churn'"):
        load("table", tmp_path, label="chrun")
    (tmp_path / f"test.{kind}").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot be read as a table|has no column"):
        load("table", tmp_path, label="churn")
    (tmp_path / f"test.{kind}").unlink()
    with pytest.raises(InputError, match=r"no test table .* test.csv or test.parquet"):
        load("table", tmp_path, label="churn")


def test_missing_values_unknown_classes_and_repeated_ids_are_refused() -> None:
    with pytest.raises(InputError, match=r"training table lacks values .*age \(1\), city \(1\)"):
        Data.of_table(TRAIN.assign(age=[1, None, 3, 4], city=["a", "b", None, "c"]), TEST, "churn", **ROLES)
    with pytest.raises(InputError, match=r"test table has the classes \['maybe'\]"):
        Data.of_table(TRAIN, TEST.assign(churn=["maybe", "no"]), "churn", **ROLES)
    with pytest.raises(InputError, match="1 id stands more than once"):
        Data.of_table(TRAIN.assign(row=[1, 1, 2, 3]), TEST, "churn", **ROLES)
    with pytest.raises(InputError, match="no column of features"):
        Data.of_table(TRAIN[["churn"]], TEST, "churn")
    with pytest.raises(InputError, match=r"column 'churn': labels such as 20\.5 .*regression"):
        Data.of_table(TRAIN.assign(churn=[20.5, 30, 40, 50]), TEST, "churn", **ROLES)
