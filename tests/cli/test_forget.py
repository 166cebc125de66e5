"""A checkpoint from elsewhere, from the shell alone: handed to forget, audited beside its own file, as a gate."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from efface.artifact.artifact import Artifact
from tests.conftest import SMALL, efface_command

BUILT = ("--data", "digits", "--model", "mlp", "--model-set", "hidden=[32]")
RECIPE = ("--recipe-set", "epochs=8", "--recipe-set", "lr=0.1", "--recipe-set", "batch_size=64")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as torch saves it, trained on all data."""
    folder = tmp_path_factory.mktemp("elsewhere")
    assert efface_command("train", *SMALL, "--validation", "0", "--out", folder / "trained").status == 0
    torch.save(Artifact.load(folder / "trained").model.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.seconds
def test_every_row_of_a_customer_is_forgotten_and_counted_and_the_gate_answers(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = ",".join(map(str, range(100, 140)))
    asked = ("-m", "gradient-ascent", "--items", f"{rows},100", "--out", out, "-q")
    answer = efface_command("forget", weights, *BUILT, *RECIPE, *asked)
    assert answer.status == 0, answer.stderr
    assert "41 records asked for: 40 to forget, 1 named more than once" in answer.stdout
    assert "kept accuracy: not looked at, as nothing was held out" in answer.stdout
    record = Artifact.read_record(out)
    assert record.data.validation == 0
    assert (record.parent.action, record.parent.recipe.epochs) == ("given", 8)
    audited = efface_command("audit", out, "--original", weights, "--check", "-q")
    assert audited.status == 4, audited.stderr  # no retrained model: level (a) cannot tell
    assert audited.stdout.splitlines()[-1] == "Did it forget? could not tell"
    assert efface_command("audit", out, "--original", weights, "-q").status == 0


@pytest.mark.seconds
def test_weights_alone_need_no_method_and_a_note_says_that_none_was_judged(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = efface_command("forget", weights, *BUILT, *RECIPE, "--classes", "1", "--out", out, "-q")
    assert answer.status == 0, answer.stderr
    record = Artifact.read_record(out)
    assert record.method == "project-distil"
    assert any("no method could be judged: project-distil was taken at its defaults" in n for n in record.notes)
    assert "no method could be judged" in answer.stdout
    assert list(tmp_path.iterdir()) == [out]
    for asked in (("--budget", "0.5", "--classes", "1"), ("--items", "3,4")):  # asks for a judge, or has no such method
        refused = efface_command("forget", weights, *BUILT, *RECIPE, *asked, "--out", tmp_path / "b", "-q")
        assert refused.status == 2
        assert "nothing was held out; name a method instead" in refused.stderr


def test_what_was_seen_of_the_weights_is_printed_once(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that gets its own training data wrong was given other inputs than it was trained on."""
    known = efface_command(
        "forget", weights, *BUILT, "-m", "logit-mask", "--classes", "1", "--out", tmp_path / "a", "-q"
    )
    assert "of 200 of its training records right" in known.stdout
    wrong = {f"module.{k}": torch.zeros_like(v) for k, v in torch.load(weights, weights_only=True).items()}
    torch.save(wrong, tmp_path / "wrong.pt")
    asked = ("-m", "logit-mask", "--classes", "1", "--out", tmp_path / "b", "-q")
    answer = efface_command("forget", tmp_path / "wrong.pt", *BUILT, *asked)
    assert "note: the model as given gets" in answer.stdout
    assert "its inputs are probably not what it was trained on" in answer.stdout
    assert answer.stdout.count("the prefix 'module.' was taken off every name") == 1
    assert not caplog.records


def test_another_file_than_the_one_given_is_refused(weights: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other.pt"
    assert efface_command("forget", weights, *BUILT, "-m", "logit-mask", "--classes", "1", "--out", out).status == 0
    torch.save({k: v + 1 for k, v in torch.load(weights, weights_only=True).items()}, other)
    answer = efface_command("audit", out, "--original", other, "-q")
    assert answer.status == 2
    assert "does not hold the weights that forgetting started from" in answer.stderr


def test_ids_and_conditions_name_records_from_the_shell(tmp_path: Path) -> None:
    rows = {"label": ["a", "b"] * 20, "x": [0.0, 1.0] * 20, "who": [f"r, {i}" for i in range(40)], "year": range(40)}
    for part in ("train", "test"):
        pd.DataFrame(rows).to_csv(tmp_path / f"{part}.csv", index=False)
    options = [w for name in ("label=label", "ids=who", "metadata=[year]") for w in ("--data-set", name)]
    data = ("--data", "table", "--root", tmp_path, *options)
    torch.save(torch.nn.Linear(1, 2).state_dict(), tmp_path / "w.pt")
    (tmp_path / "names.txt").write_text("r, 3\n\nr, 7\n")
    for k, (asked, count) in enumerate(
        {
            ("--ids", f"@{tmp_path / 'names.txt'}"): 2,
            ("--where", "year >= 30 and year != 31"): 9,
            ("--where", "year in [1, 2]"): 2,
            ("--where", "year=5"): 1,
        }.items()
    ):
        built = ("--model", "torch.nn:Linear", "--model-set", "in_features=1", "--model-set", "out_features=2")
        out = ("-m", "gradient-ascent", *asked, "--out", tmp_path / str(k), "--json", "-q")
        answer = efface_command("forget", tmp_path / "w.pt", *built, *data, *out)
        assert answer.status == 0, answer.stderr
        assert json.loads(answer.stdout)["record"]["counts"]["forgotten"] == count
    twice = efface_command("forget", tmp_path / "w.pt", "--where", "year > 1", "--where", "year < 3", "--out", tmp_path)
    assert twice.status == 2
    answer = efface_command("forget", tmp_path / "w.pt", "--ids", "@none.txt", "--out", tmp_path / "x")
    assert "no such file" in answer.stderr


def test_an_unchanged_model_is_not_written_and_ends_with_1(weights: Path, tmp_path: Path) -> None:
    asked = ("-m", "ssd", "--set", "alpha=.inf", "--classes", "4", "--out", tmp_path / "out", "--json", "-q")
    answer = efface_command("forget", weights, *BUILT, *asked)
    assert answer.status == 1
    assert not (tmp_path / "out").exists()
    assert json.loads(answer.stdout)["folder"] is None
    assert "failed: ssd: nothing was done" in answer.stderr


def test_no_epochs_and_no_network_are_refused(weights: Path, tmp_path: Path) -> None:
    none = efface_command("train", *BUILT, "--weights", weights, "--recipe-set", "epochs=0", "--out", tmp_path / "a")
    assert (none.status, "efface forget WEIGHTS" in none.stderr) == (2, True)
    bare = efface_command("forget", weights, "--data", "digits", "-m", "ssd", "--classes", "1", "--out", tmp_path / "b")
    assert (bare.status, "--model" in bare.stderr) == (2, True)
    nowhere = efface_command(
        "forget", tmp_path / "w.pt", *BUILT, "-m", "ssd", "--classes", "1", "--out", tmp_path / "b"
    )
    assert (nowhere.status, "there is no file and no folder at" in nowhere.stderr) == (2, True)


TRAINED = [
    word
    for setting in ("optimiser=adam", "lr=0.002", "weight_decay=0", "schedule=cosine", "epochs=40", "batch_size=64")
    for word in ("--recipe-set", setting)
]


@pytest.mark.slow
def test_forgetting_without_a_method_passes_a_sealed_audit_against_other_references(tmp_path: Path) -> None:
    """The whole way of a request: six retrained models to be judged by, six others for the audit that counts."""
    original, forgotten = tmp_path / "original", tmp_path / "forgotten"
    built = ("--data", "digits", "--model", "mlp", "--model-set", "hidden=[64,64]", "--model-set", "activation=relu")
    made = efface_command("train", *built, *TRAINED, "--out", original, "-q")
    assert made.status == 0, made.stderr
    for folder, seed in (("judges", "0"), ("others", "1")):
        asked = ("train", "--from", original, "--references", "6", "--classes", "0", "--backend", "vmap", "-q")
        made = efface_command(*asked, "--seed", seed, "--device", "cpu", "--out", tmp_path / folder)
        assert made.status == 0, made.stderr
    asked = ("--classes", "0", "--references", tmp_path / "judges", "--out", forgotten, "--device", "cpu", "-q")
    made = efface_command("forget", original, *asked)
    assert made.status == 0, made.stderr
    record = Artifact.read_record(forgotten)
    assert record.method != "retrain"
    assert any("the first to meet the standards" in note for note in record.notes)
    others = ("--references", tmp_path / "others", "--sealed", "--check", "--device", "cpu", "-q")
    audited = efface_command("audit", forgotten, "--original", original, *others)
    assert audited.status == 0, audited.stdout
    assert audited.stdout.splitlines()[-1] == "Did it forget? no difference found"
