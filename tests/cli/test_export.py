"""`efface export` with a model card, and `--log`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

from efface.artifact.artifact import Artifact
from efface.models.checkpoints.card import MARK
from tests.conftest import efface_command


@pytest.fixture
def forgotten(trained_folder, tmp_path):
    made = tmp_path / "made"
    answer = efface_command("forget", trained_folder, "-m", "logit-mask", "--classes", "3", "--out", made, "-q")
    assert answer.status == 0, answer.stderr
    return made


@pytest.mark.seconds
def test_a_card_is_written_beside_and_says_what_the_audit_says(forgotten, trained_folder, tmp_path):
    weights, card = tmp_path / "new.pth", tmp_path / "new.md"
    answer = efface_command("export", forgotten, "--out", weights)
    assert answer.status == 0, answer.stderr
    assert answer.stdout.splitlines() == [f"written: {weights}", f"written: {card}"]
    assert "It was not audited" in card.read_text()
    assert efface_command("audit", forgotten, "--original", trained_folder, "-q").status == 0
    answer = efface_command("export", forgotten, "--out", weights, "--overwrite")
    assert answer.status == 0, answer.stderr
    assert "It was not audited" not in card.read_text()
    assert MARK in card.read_text()
    (forgotten / "audit.json").write_text("[]")
    assert "audit.json is damaged" in efface_command("export", forgotten, "--out", tmp_path / "b.pth").stderr
    assert not (tmp_path / "b.pth").exists()
    assert efface_command("export", forgotten, "--out", tmp_path / "b.pth", "--no-card").status == 0
    assert not (tmp_path / "b.md").exists()


def test_a_file_of_mine_is_never_replaced_by_a_card(forgotten, tmp_path):
    (tmp_path / "new.md").write_text("my notes")
    answer = efface_command("export", forgotten, "--out", tmp_path / "new.pth", "--overwrite")
    assert answer.status == 2
    assert "never replaced" in answer.stderr
    assert not (tmp_path / "new.pth").exists()
    assert (tmp_path / "new.md").read_text() == "my notes"


def test_logs_are_off_by_default_and_said_to_be_an_extra_before_any_work(trained_folder, tmp_path):
    out = tmp_path / "out"
    ask = "forget", trained_folder, "-m", "logit-mask", "--classes", "3", "--out", out, "-q", "--log", tmp_path / "log"
    answer = efface_command(*ask)
    if importlib.util.find_spec("tensorboard") is None:
        assert answer.status == 2
        assert "pip install 'efface[log]'" in answer.stderr
        assert not out.exists()
    else:
        assert answer.status == 0, answer.stderr
        assert list((tmp_path / "log").glob("events*"))


@pytest.mark.parametrize("stored", ["float64", "bfloat16"])
def test_the_type_in_which_weights_came_is_said_and_comes_back(
    stored: str, trained_folder: Path, tmp_path: Path
) -> None:
    state = Artifact.load(trained_folder).model.state_dict()
    torch.save({k: v.to(getattr(torch, stored)) for k, v in state.items()}, tmp_path / "w.pth")
    source = ("--model", "mlp", "--model-set", "hidden=[32]", "--data", "digits")
    asked = ("-m", "gradient-ascent", "--classes", "3", "--out", tmp_path / "out", "-q")
    answer = efface_command("forget", tmp_path / "w.pth", *source, *asked)
    assert answer.status == 0, answer.stderr
    said = f"the weights came as {stored}: they were changed, and are kept, in float32"
    assert said in answer.stdout
    assert said in Artifact.read_record(tmp_path / "out").notes
    ours = Artifact.load(tmp_path / "out").model.state_dict()

    def exported(*more: str) -> tuple[str, dict[str, Tensor]]:
        answer = efface_command("export", tmp_path / "out", "--out", tmp_path / "new.pth", "--overwrite", *more)
        return answer.stdout + answer.stderr, torch.load(tmp_path / "new.pth", weights_only=True)

    said, exact = exported()
    assert all(torch.equal(v.float(), ours[k]) for k, v in exact.items())
    assert {v.dtype for v in exact.values()} == {torch.float64 if stored == "float64" else torch.float32}
    told, rounded = exported("--rounded")
    if stored == "float64":
        assert "weights:" not in said
        assert "nothing is rounded; leave it out" in told
    else:
        assert "weights: float32, as they were changed and audited; they came as bfloat16" in said
        assert "audit this file again" in told
        assert all(torch.equal(v, ours[k].bfloat16()) for k, v in rounded.items())
