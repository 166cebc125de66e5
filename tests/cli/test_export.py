"""`efface export` with a model card, and `--log`."""

from __future__ import annotations

import importlib.util

import pytest

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
