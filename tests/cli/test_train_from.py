"""Codes for a model that is already trained, from the shell: train, fine-tune codes in, forget."""

from __future__ import annotations

from pathlib import Path

from efface.artifact.artifact import Artifact
from efface.data import Split, load
from efface.methods.applying import rebuilt
from efface.models.predictions import accuracy_of
from efface.request import Request
from tests.conftest import SMALL, efface_command


def test_codes_are_fine_tuned_into_a_trained_model_and_forget_a_class(tmp_path: Path) -> None:
    original, coded, forgotten = (tmp_path / name for name in ("original", "coded", "forgotten"))
    fine_tuning = ("--recipe-set", "epochs=8", "--recipe-set", "lr=0.05")
    for command in (
        ("train", *SMALL, "--out", original),
        ("train", "--from", original, "--method", "mnemonic", "--set", "t_mix=0.3", *fine_tuning, "-q", "--out", coded),
        ("forget", coded, "--method", "mnemonic", "--set", "search=true", "--classes", "0", "-q", "--out", forgotten),
    ):
        answer = efface_command(*command)
        assert answer.status == 0, answer.stderr
    first, second, third = (Artifact.load(p, rebuild=rebuilt) for p in (original, coded, forgotten))
    assert [(r.action, r.method) for r in third.record.chain] == [
        ("train", "plain"),
        ("train", "mnemonic"),
        ("forget", "mnemonic"),
    ]
    assert second.record.weights_before == first.record.weights_after
    assert second.record.recipe.epochs == 8
    assert not first.memory
    codes, classes = second.memory["codes"], second.memory["code_classes"]
    assert float((second.model(codes).argmax(1) == classes).float().mean()) >= 0.9
    split = Split.of(load("digits"), Request.of(classes=[0]))
    before, after = (accuracy_of(a.model, split.test_retain) for a in (first, third))
    assert accuracy_of(first.model, split.test_forget) > 0.9
    assert accuracy_of(third.model, split.test_forget) < 0.1
    assert after > before - 0.1


def test_training_continues_from_weights_of_elsewhere(tmp_path: Path) -> None:
    assert efface_command("train", *SMALL, "--out", tmp_path / "original").status == 0
    weights = Artifact.load(tmp_path / "original").export(tmp_path / "weights.safetensors")
    answer = efface_command("train", "--from", weights, *SMALL, "--recipe-set", "epochs=1", "--out", tmp_path / "more")
    assert answer.status == 2  # epochs is given twice
    built = ("--model", "mlp", "--model-set", "hidden=[32]", "--data", "digits", "--recipe-set", "epochs=1", "-q")
    answer = efface_command("train", "--from", weights, *built, "--out", tmp_path / "more")
    assert answer.status == 0, answer.stderr
    record = Artifact.read_record(tmp_path / "more")
    assert [r.action for r in record.chain] == ["given", "train"]
    assert record.weights_before == Artifact.read_record(tmp_path / "original").weights_after
