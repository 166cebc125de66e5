"""`efface audit --predictions`: tables in, the same report out."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.conftest import efface_command


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Before, after and one retrained: two classes; the two records to forget are known before and not afterwards."""
    folder = tmp_path_factory.mktemp("predictions")
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    frame = pd.DataFrame(
        {
            "customer": [f"C{i:03}" for i in range(200)],
            "label": np.array(["stay", "churn"])[labels],
            "part": np.where(np.arange(200) < 20, "forget", np.where(np.arange(200) < 120, "train", "test")),
            "year": 2000 + np.arange(200) % 25,
        }
    )
    for name, sure in (("before", 0.95), ("after", 0.7), ("retrained", 0.7)):
        p = np.where(np.arange(200) < 20, sure, 0.8) + rng.uniform(-0.05, 0.05, 200)
        own = frame.assign(prob_churn=np.where(labels == 1, p, 1 - p), prob_stay=np.where(labels == 0, p, 1 - p))
        own.to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_tables_are_audited_and_reported(tables, tmp_path):
    files = [tables / f"{name}.csv" for name in ("before", "after", "retrained")]
    answer = efface_command(
        "audit", "--predictions", *files, "--data-set", "id=customer", "--out", tmp_path / "out", "--check", "-q"
    )
    assert answer.status == 4, answer.stderr
    assert answer.stdout.rstrip().endswith("Did it forget? could not tell")
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (audit["level"], audit["candidate"], audit["counts"]["forget"]) == ("b", "after", 20)
    assert any("original (before.csv) " in note for note in audit["notes"])
    assert str(tables) not in (tmp_path / "out" / "audit.json").read_text()
    page = (tmp_path / "out" / "report.md").read_text()
    assert "only its answers are known" in page
    found = efface_command("audit", "--predictions", *files[:2], "--data-set", "id=customer", "--json", "-q")
    assert found.status == 0
    assert json.loads(found.stdout)["level"] == "a"
    assert "no report was written" in found.stderr


def test_what_was_asked_can_be_said_by_options(tables, tmp_path):
    frame = pd.read_csv(tables / "before.csv").assign(part=lambda t: t["part"].replace("forget", "train"))
    frame.to_csv(tmp_path / "before.csv", index=False)
    (tmp_path / "ids.txt").write_text("C003\nC005\n")
    after = tables / "after.csv"
    ask = "audit", "--predictions", tmp_path / "before.csv", after, "--data-set", "id=customer", "--json", "-q"
    refused = efface_command(*ask, "--ids", f"@{tmp_path / 'ids.txt'}")
    assert refused.status == 2
    assert "disagree on the column 'part'" in refused.stderr
    pd.read_csv(after)[["customer", "prob_stay", "prob_churn"]].to_csv(tmp_path / "after.csv", index=False)
    ask = *ask[:3], tmp_path / "after.csv", *ask[4:]
    for options, count in (
        (("--ids", f"@{tmp_path / 'ids.txt'}"), 2),
        (("--where", "year < 2002"), 10),
        (("--classes", "stay"), 60),
    ):
        answer = efface_command(*ask, *options)
        assert answer.status == 0, answer.stderr
        assert json.loads(answer.stdout)["counts"]["forget"] == count


def test_options_of_the_other_form_are_refused(tables, tmp_path):
    before, after = tables / "before.csv", tables / "after.csv"
    (tables / "again").mkdir()
    again = shutil.copy(before, tables / "again")
    for arguments, said in (
        ((before, after, "--predictions", "--original", before), "--original is for models"),
        ((before, after, "--predictions", "--device", "cpu"), "--device is for models"),
        ((before, "--predictions"), "give two tables or more"),
        ((before, "--original", before, "--ids", "a"), "--ids is for --predictions"),
        ((before, after), "give one artifact folder or weights, and --original"),
        ((before, after, "--predictions"), "no column 'id'"),
        ((before, after, "--predictions", "--out", before), "before.csv"),
        (
            (before, after, "--predictions", "--other", before, "--other", again),
            "both be the row",
        ),
    ):
        refused = efface_command("audit", *arguments, "-q")
        assert refused.status == 2, refused.stdout
        assert said in refused.stderr


def test_a_file_of_options_may_give_one_folder_or_several(tables, tmp_path):
    file = tmp_path / "audit.yaml"
    for artifact in ("nowhere", "[nowhere]"):
        file.write_text(f"artifact: {artifact}\noriginal: {tables}\n")
        refused = efface_command("audit", "--config", file)
        assert refused.status == 2
        assert "nowhere is not an artifact folder" in refused.stderr
