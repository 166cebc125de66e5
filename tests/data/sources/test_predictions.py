"""Tables of what models answered."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from efface.data.sources.predictions import predictions
from efface.errors import InputError


def table(**changes):
    """Four records, two classes; a change replaces a column, None drops it."""
    columns = {
        "id": ["007", "b", "c", "d"],
        "label": ["cat", "dog", "cat", "dog"],
        "part": ["forget", "retain", "held-out", "test"],
        "prob_cat": [0.9, 0.25, 0.6, 0.1],
        "prob_dog": [0.1, 0.75, 0.4, 0.9],
        "year": [2019, 2020, 2021, 2022],
    }
    return pd.DataFrame({k: v for k, v in (columns | changes).items() if v is not None})


def test_records_and_logits_are_those_of_the_table():
    read = predictions({"before": table(group=["x", "y", "y", "y"])})
    assert read.data.classes == ("cat", "dog")
    assert read.data.ids.tolist() == ["007", "b"]
    assert read.data.train.labels.tolist() == read.data.test.labels.tolist() == [0, 1]
    assert read.data.metadata["year"].tolist() == [2019, 2020]
    assert (read.data.groups.tolist(), read.data.test_groups.tolist()) == (["x", "y"], ["y", "y"])
    assert read.marked == ("007",)
    # A record's input is its row; softmax of the logits is what was given.
    rows = torch.cat([read.data.train.inputs, read.data.test.inputs]).flatten().tolist()
    assert rows == [0, 1, 2, 3]
    assert np.allclose(read.logits[0].softmax(1)[:, 0], [0.9, 0.25, 0.6, 0.1])


def test_other_tables_may_be_in_another_order_and_in_a_file(tmp_path):
    first = table()
    second = table(label=None, part=None, year=None)[["prob_dog", "id", "prob_cat"]].iloc[[3, 1, 0, 2]]
    second.to_csv(tmp_path / "after.csv", index=False)
    second.to_parquet(tmp_path / "after.parquet")
    for kind in ("csv", "parquet"):
        read = predictions({"before": first, "after": tmp_path / f"after.{kind}"})
        assert torch.allclose(read.logits[0], read.logits[1])  # the id 007 stays a text


def test_arrays_are_tables_without_names():
    scores = table()[["prob_cat", "prob_dog"]].to_numpy()
    facts = {"labels": [0, 1, 0, 1], "parts": table()["part"]}
    named = predictions({"before": table()})
    read = predictions({"before": scores, "after": torch.tensor(scores)}, **facts)
    assert torch.equal(read.logits[1], named.logits[0])
    assert read.data.classes == ("0", "1")
    assert read.data.ids.tolist() == ["0", "1"]
    other = predictions({"before": scores}, **facts, ids=["007", "b", "c", "d"], classes=["cat", "dog"])
    assert other.data.fingerprint == named.data.fingerprint != read.data.fingerprint
    raw = predictions({"before": np.log(scores) + 3}, **facts, logits=True)
    assert torch.allclose(raw.logits[0].log_softmax(1), read.logits[0])


def test_no_probability_is_infinitely_unlikely():
    """0 counts as half of the least that the tables tell apart, or 0.001 where they are coarse."""
    coarse, fine = table(prob_cat=[1, 0, 1, 0], prob_dog=[0, 1, 0, 1]), table(prob_cat=[1e-4, 0, 1, 0.5])
    fine["prob_dog"] = 1 - fine["prob_cat"]
    assert float(predictions({"a": coarse}).logits[0].exp().min()) == pytest.approx(1e-3)
    read = predictions({"a": coarse, "b": fine})
    assert float(read.logits[0].exp().min()) == pytest.approx(5e-5)
    assert "6 of 16 probabilities are 0 and count as 5e-05" in read.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ["a", "b", "c", "a"]}, "1 id stands more than once: a"),
        ({"id": None}, "no column 'id'"),
        ({"label": None}, "no column 'label'"),
        ({"label": ["cat", "dog", "owl", "dog"]}, "1 label is no class that has scores: owl; the classes are cat, dog"),
        ({"label": ["cat", "dog", None, "dog"]}, "column 'label' lacks 1 value, the first in row 3"),
        ({"part": None}, "no column 'part'"),
        ({"part": ["forget", "retain", "test", "unseen"]}, r"holds 'unseen'\. .*Allowed: forget, held-out"),
        ({"part": ["forget", "retain", "train", "train"]}, "no record is 'held-out'"),
        ({"part": ["forget", "forget", "test", "test"]}, "no record is 'retain'"),
        ({"prob_cat": [0.9, 0.25, float("nan"), 0.1]}, "column 'prob_cat' lacks 1 value, the first in row 3"),
        ({"prob_cat": [0.9, 0.25, float("inf"), 0.1]}, "1 row holds infinite scores"),
        ({"prob_cat": [0.9, 0.25, 0.8, 0.1]}, "1 of 4 rows are no probabilities.*id c, sums to 1.2"),
        ({"prob_cat": [0.9, 0.25, 1.6, 0.1], "prob_dog": [0.1, 0.75, -0.6, 0.9]}, "least is -0.6"),
        ({"prob_cat": ["a", "b", "c", "d"]}, "column 'prob_cat' holds no numbers"),
        ({"prob_cat": None}, r"one column of scores \(prob_dog\)"),
        ({"prob_cat": None, "prob_dog": None}, "neither prob_... nor logit_... columns"),
        ({"logit_cat": [1, 2, 3, 4]}, "both prob_... and logit_... columns"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(change, said):
    with pytest.raises(InputError, match=f"before.*{said}"):
        predictions({"before": table(**change)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ["007", "b", "c", "e"]}, r"it lacks 1 id \(d\); 1 of its ids is not in the first \(e\)"),
        ({"id": ["007", "b", "b", "d"]}, "1 id stands more than once: b"),
        ({"label": ["cat", "cat", "cat", "dog"]}, "disagree on the column 'label' of 1 record: b"),
        (
            {"prob_dog": None, "prob_owl": [0.1, 0.75, 0.4, 0.9]},
            "scores for the classes cat, owl; the first table: cat",
        ),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(change, said):
    with pytest.raises(InputError, match=f"after.*{said}"):
        predictions({"before": table(), "after": table(**change)})


def test_forms_are_not_mixed_and_columns_can_have_other_names(tmp_path):
    scores = np.full((4, 2), 0.5)
    with pytest.raises(InputError, match="some predictions are arrays and some are tables"):
        predictions({"before": table(), "after": scores})
    with pytest.raises(InputError, match="labels given beside tables"):
        predictions({"before": table()}, labels=[0, 1, 0, 1])
    with pytest.raises(InputError, match="parts is missing"):
        predictions({"before": scores}, labels=[0, 1, 0, 1])
    with pytest.raises(InputError, match="4 rows, and 3 entries of label"):
        predictions({"before": scores}, labels=[0, 1, 0], parts=table()["part"])
    with pytest.raises(InputError, match=r"no predictions at .*nowhere\.csv"):
        predictions({"before": tmp_path / "nowhere.csv"})
    with pytest.raises(InputError, match=r"no column 'ids' can have another name\. Did you mean 'id'"):
        predictions({"before": table()}, columns={"ids": "record"})
    renamed = table().rename(columns={"id": "record", "part": "role"})
    read = predictions({"before": renamed}, columns={"id": "record", "part": "role"})
    assert read.data.fingerprint == predictions({"before": table()}).data.fingerprint


def test_a_broken_file_is_said_to_be_one(tmp_path):
    (tmp_path / "before.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="cannot be read as a table"):
        predictions({"before": tmp_path / "before.parquet"})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_broken_bytes_are_never_more_than_an_error(kind, tmp_path):
    """Bytes changed, cut out and put in: read, or refused in a sentence."""
    good, file, rng = table(), tmp_path / f"a.{kind}", np.random.default_rng(0)
    getattr(good, f"to_{kind}")(file, index=False)
    raw, refused = file.read_bytes(), []
    for _ in range(60):
        changed = bytearray(raw)
        for at in rng.integers(len(raw) - 4, size=rng.integers(1, 5)).tolist():
            size = int(rng.integers(3))
            changed[at : at + size] = rng.bytes(int(rng.integers(1, 4)))
        file.write_bytes(changed)
        try:
            predictions({"before": good, "after": file})
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert not any("\n" in words for words in refused)
