"""The command line: every verb, every bad input, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.main import get_command

import efface
from efface.artifact.artifact import Artifact
from efface.auditing.rows import AS_LONG
from efface.cli import app
from tests.conftest import SMALL, efface_command


def test_importing_the_package_does_not_import_torch():
    code = "import sys, efface, efface.cli; assert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_help_lists_commands_in_the_order_in_which_they_are_needed():
    said = efface_command("--help").stdout
    listed = re.findall(r"^\W*(\w+)  +[A-Z]", said.split("Commands")[1], flags=re.MULTILINE)
    assert listed[:6] == ["train", "import", "forget", "audit", "verify", "compare"]
    assert set(listed) == set(get_command(app).commands)


@pytest.mark.parametrize("name", sorted(get_command(app).commands))
def test_help_shows_no_value_for_flags_and_one_for_what_may_be_repeated(name):
    said = efface_command(name, "--help").stdout
    assert "--verbose" in said
    assert [line for line in said.splitlines() if "<bool>" in line and "--help" not in line] == []
    assert "list[" not in said.split("─ Options ")[1]


@pytest.mark.parametrize("name", sorted(get_command(app).commands))
def test_paragraphs_of_help_are_broken_by_the_terminal_alone(name):
    assert "\n" not in get_command(app).commands[name].help.replace("\n\n", "")


def test_version():
    assert efface_command("--version").stdout.strip() == efface.__version__


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "efface", "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == efface.__version__


def test_the_table_of_methods_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = efface_command("methods").stdout
    assert "certified-removal" in answer
    assert max(map(len, answer.splitlines())) <= 80


def test_methods_as_json_describes_every_method():
    rows = json.loads(efface_command("methods", "--json").stdout)
    assert {"mnemonic", "decay", "retrain", "fine-tune", "logit-mask"} <= {r["name"] for r in rows}
    for row in rows:
        assert set(row) >= {"name", "targets", "reads", "prepared", "cost", "source"}
        assert set(row["targets"]) <= {"classes", "items"}
        assert row["cost"].startswith("O(")
        assert "P" in row["memory"]


@pytest.mark.seconds
def test_train_forget_audit_writes_an_artifact_and_a_report(trained_folder, tmp_path):
    out = tmp_path / "forgotten"
    answer = efface_command("forget", trained_folder, "--method", "mnemonic", "--classes", "0,5", "--out", out, "-q")
    assert answer.status == 0, answer.stderr
    assert str(out) in answer.stdout
    answer = efface_command("audit", out, "--original", trained_folder, "--retrain", "--json", "-q")
    assert answer.status == 0, answer.stderr
    audit = json.loads(answer.stdout)
    names = [r["name"] for r in audit["rows"] if r["name"] != AS_LONG]  # there where forgetting took a step's time
    assert names == ["original", "retrained", "fine-tuned", "logit mask", "mnemonic"]
    assert audit["level"] == "b"
    assert json.loads((out / "audit.json").read_text())["verdict"] == audit["verdict"]
    assert {p.name for p in out.iterdir()} == {
        "model.safetensors", "memory.safetensors", "record.json", "audit.json", "report.html", "report.md",
    }  # fmt: skip
    record = Artifact.read_record(out)
    assert [r.action for r in record.chain] == ["train", "forget"]
    assert record.weights_before == record.parent.weights_after


def test_requests_follow_one_another(trained_folder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert efface_command("forget", trained_folder, "-m", "logit-mask", "--classes", "1", "--out", first).status == 0
    again = efface_command("forget", first, "-m", "logit-mask", "--classes", "1", "--out", second)
    assert again.status == 2
    assert "already forgotten" in again.stderr
    assert efface_command("forget", first, "-m", "logit-mask", "--classes", "2", "--out", second).status == 0
    assert len(Artifact.read_record(second).earlier_requests) == 2


def test_a_yaml_file_stands_in_for_flags(tmp_path):
    config = tmp_path / "train.yaml"
    config.write_text(
        "data: digits\nmodel: mlp\nmodel-set: {hidden: [16]}\nrecipe_set: {epochs: 1, lr: 0.1}\nquiet: true\n"
    )
    out = tmp_path / "out"
    answer = efface_command("train", "--config", config, "--out", out, "--seed", "3")
    assert answer.status == 0, answer.stderr
    record = Artifact.read_record(out)
    assert record.recipe.lr == 0.1
    assert record.recipe.seed == 3
    assert record.model.arguments == {"hidden": [16]}
    config.write_text("modle: mlp\n")
    answer = efface_command("train", "--config", config, "--out", tmp_path / "no")
    assert answer.status == 2
    assert "model" in answer.stderr


def test_class_means_kept_by_training_forget_without_data(tmp_path):
    answer = efface_command("train", *SMALL, "--keep", "class-means", "--out", tmp_path / "o")
    assert answer.status == 0, answer.stderr
    answer = efface_command(
        "forget", tmp_path / "o", "--method", "class-means", "--classes", "0", "--out", tmp_path / "f", "-q"
    )
    assert answer.status == 0, answer.stderr
    record = json.loads((tmp_path / "f" / "record.json").read_text())
    assert any("those of class 0 were removed" in note for note in record["notes"])
    wrong = efface_command("train", *SMALL, "--keep", "class-mean", "--out", tmp_path / "w")
    assert wrong.status == 2
    assert "allowed: class-means" in wrong.stderr
    assert not (tmp_path / "w").exists()


def test_train_continues_from_an_artifact_to_mix_codes_in(tmp_path):
    plain, coded = tmp_path / "plain", tmp_path / "coded"
    assert efface_command("train", *SMALL, "--out", plain).status == 0
    refused = efface_command("forget", plain, "-m", "mnemonic", "--classes", "0", "--out", tmp_path / "x")
    assert refused.status == 2
    assert "efface train --from" in refused.stderr
    answer = efface_command("train", "--from", plain, "--method", "mnemonic", "--out", coded, "-q")
    assert answer.status == 0, answer.stderr
    assert Artifact.read_record(coded).parent.method == "plain"
    search = ("--set", "search=true")
    done = efface_command("forget", coded, "-m", "mnemonic", *search, "--classes", "0", "--out", tmp_path / "x")
    assert done.status == 0, done.stderr


FORGET_ERRORS = {
    "unknown class": (["--classes", "12"], "allowed: 0 to 9"),
    "unknown class name": (["--classes", "zero"], "unknown class 'zero'"),
    "every class": (["--classes", "0,1,2,3,4,5,6,7,8,9"], "every class"),
    "no request": ([], "one of --classes"),
    "two requests": (["--classes", "1", "--items", "3"], "one of --classes"),
    "items out of range": (["--items", "1,99999"], "out of range"),
    "classes repeated": (["--classes", "4,4"], "more than once"),
    "items that are no numbers": (["--items", "4,x"], "whole numbers"),
    "a file of items that is missing": (["--items", "@nowhere.txt"], "no such file"),
    "no groups in the data": (["--groups", "anna"], "no group ids"),
    "no metadata": (["--where", "a=1"], "no metadata"),
    "unknown method": (["--classes", "1", "-m", "mnemnic"], "mean 'mnemonic'"),
    "unknown setting": (["--classes", "1", "--set", "lambda1=3"], "mean 'lambda_1'"),
    "setting out of bounds": (["--classes", "1", "--set", "lambda_1=-3"], "greater than or equal to 0"),
    "setting without value": (["--classes", "1", "--set", "lambda_1"], "NAME=VALUE"),
    "setting given twice": (["--classes", "1", "--set", "lambda_1=1", "--set", "lambda_1=2"], "twice"),
    "unknown device": (["--classes", "1", "--device", "tpu"], "unknown device"),
    "missing request file": (["--request", "nowhere.json"], "no request file"),
    "other data": (["--classes", "1", "--data-set", "normalise=false"], "not the data"),
}


@pytest.mark.parametrize("case", FORGET_ERRORS)
def test_bad_requests_are_refused_with_status_2_and_nothing_written(case, trained_folder, tmp_path):
    arguments, words = FORGET_ERRORS[case]
    method = [] if "-m" in arguments else ["-m", "mnemonic"]
    answer = efface_command("forget", trained_folder, *method, *arguments, "--out", tmp_path / "out", "-q")
    assert answer.status == 2
    assert words in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_items_of_a_class_only_method_are_refused_with_alternatives(trained_folder, tmp_path):
    answer = efface_command("forget", trained_folder, "-m", "mnemonic", "--items", "3,4", "--out", tmp_path / "out")
    assert answer.status == 2
    assert "retrain" in answer.stderr
    assert "fine-tune" in answer.stderr


def test_an_existing_folder_needs_overwrite(trained_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep")
    arguments = ("forget", trained_folder, "-m", "logit-mask", "--classes", "1", "--out", out)
    refused = efface_command(*arguments)
    assert refused.status == 2
    assert "precious.txt" in refused.stderr
    assert efface_command(*arguments, "--overwrite").status == 2
    assert (out / "precious.txt").read_text() == "keep"
    (out / "precious.txt").unlink()
    assert efface_command(*arguments).status == 0
    refused = efface_command(*arguments)
    assert refused.status == 2
    assert "--overwrite" in refused.stderr
    made = (out / "record.json").stat().st_ino
    assert efface_command(*arguments, "--overwrite").status == 0
    assert (out / "record.json").stat().st_ino != made


def test_weights_that_do_not_fit_name_the_keys(tmp_path):
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "w.pt")
    answer = efface_command("train", *SMALL, "--weights", tmp_path / "w.pt", "--out", tmp_path / "out")
    assert answer.status == 2
    assert "other.weight" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'exploded'}",))

    (tmp_path / "w.pt").write_bytes(pickle.dumps(Bomb()))
    answer = efface_command("train", *SMALL, "--weights", tmp_path / "w.pt", "--out", tmp_path / "out")
    assert answer.status == 2
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_wrong_width_is_refused(tmp_path):
    answer = efface_command("train", *SMALL, "--model-set", "num_classes=7", "--out", tmp_path / "out")
    assert answer.status == 2
    assert "7" in answer.stderr


def test_damaged_artifacts_are_refused(trained_folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained_folder, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    arguments = ("forget", copy, "-m", "logit-mask", "--classes", "1", "--out", tmp_path / "out")
    assert efface_command(*arguments).status == 2
    shutil.copy(trained_folder / "model.safetensors", weights)
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    changed = efface_command(*arguments)
    assert changed.status == 2
    assert "changed after writing" in changed.stderr
    (copy / "record.json").write_text("{")
    assert efface_command(*arguments).status == 2
    assert efface_command("forget", tmp_path / "nowhere", *arguments[2:]).status == 2
    assert not (tmp_path / "out").exists()


def test_nan_in_data_is_refused(tmp_path):
    x = np.zeros((20, 4), np.float32)
    x[3, 2] = np.nan
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(20) % 2, x_test=x[:3], y_test=[0, 1, 0])
    answer = efface_command(
        "train", "--data", "arrays", "--root", tmp_path / "d.npz", "--model", "mlp", "--out", tmp_path / "out"
    )
    assert answer.status == 2
    assert "position 3" in answer.stderr


def test_a_full_disk_half_way_leaves_nothing(trained_folder, tmp_path, monkeypatch):
    import safetensors.torch

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    answer = efface_command("forget", trained_folder, "-m", "logit-mask", "--classes", "1", "--out", tmp_path / "out")
    assert answer.status == 1
    assert "No space left" in answer.stderr
    assert list(tmp_path.iterdir()) == []


# Where the tests themselves run in the background of a shell, children ignore SIGINT; a user's shell does not.
SAYS_WHEN_IT_TRAINS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from efface.training.loop import Trainer
step = Trainer._one
def first(self):
    Trainer._one = step
    print("training", flush=True)
    step(self)
Trainer._one = first
from efface.cli import main
main()
"""


@pytest.mark.seconds
def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path):
    arguments = ["train", *SMALL, "--recipe-set", "epochs=100000", "--out", str(tmp_path / "out")]
    arguments.remove("epochs=8")
    arguments.remove("--recipe-set")
    process = subprocess.Popen(
        [sys.executable, "-c", SAYS_WHEN_IT_TRAINS, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout.readline() == "training\n", process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.seconds
def test_mnist_from_the_shell(mnist_root, tmp_path):
    trained, forgotten = tmp_path / "trained", tmp_path / "forgotten"
    shared = ("--root", mnist_root, "-q")
    answer = efface_command(
        "train", "--data", "mnist", *shared, "--model", "mlp", "--model-set", "hidden=[32]", "--method", "mnemonic",
        "--recipe-set", "epochs=1", "--recipe-set", "lr=0.1", "--out", trained,
    )  # fmt: skip
    assert answer.status == 0, answer.stderr
    answer = efface_command("forget", trained, *shared, "-m", "decay", "--classes", "0,5", "--out", forgotten)
    assert answer.status == 0, answer.stderr
    answer = efface_command("audit", forgotten, *shared, "--original", trained)
    assert answer.status == 0, answer.stderr
    assert (forgotten / "report.html").is_file()
    assert "Level (a)" in answer.stdout


def test_paths_that_are_not_folders_are_refused(trained_folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    arguments = ("forget", trained_folder, "-m", "logit-mask", "--classes", "1", "--out")
    assert efface_command(*arguments, file).status == 2
    assert efface_command(*arguments, Path(file) / "under").status == 2


def test_forget_without_a_method_climbs_the_ladder_and_leaves_no_trial_behind(trained_folder: Path, tmp_path: Path):
    answer = efface_command("forget", trained_folder, "--classes", "3", "--out", tmp_path / "forgotten", "-q")
    assert answer.status == 0, answer.stderr
    record = Artifact.read_record(tmp_path / "forgotten")
    assert record.method in {"class-transport", "project-distil", "undo", "retrain"}
    assert any(note.startswith("auto: took ") for note in record.notes)
    assert [p.name for p in tmp_path.iterdir()] == ["forgotten"]


def test_what_only_a_search_takes_is_refused_elsewhere(trained_folder: Path, tmp_path: Path):
    common = ("forget", trained_folder, "--classes", "3", "--out", tmp_path / "forgotten", "-q")
    answer = efface_command(*common, "--method", "fine-tune", "--budget", "0.3")
    assert answer.status == 2
    assert "for a search to judge by" in answer.stderr
    answer = efface_command(*common, "--budget", "0")
    assert answer.status == 2
    assert "above 0" in answer.stderr
