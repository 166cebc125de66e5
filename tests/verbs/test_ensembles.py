"""An ensemble on its whole way through the command line: trained, forgotten from, audited, verified."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import SMALL, efface_command


def test_an_ensemble_is_audited_and_verified_and_its_features_are_not_assessed(tmp_path: Path) -> None:
    original, forgotten = tmp_path / "original", tmp_path / "forgotten"
    settings = ("--set", "shards=2", "--set", "slices=2")
    for command in (
        ("train", *SMALL, "--method", "sisa", *settings, "--out", original),
        ("forget", original, "--method", "sisa", "--classes", "3", "--out", forgotten, "-q"),
        ("audit", forgotten, "--original", original, "--retrain", "-q"),
    ):
        answer = efface_command(*command)
        assert answer.status == 0, answer.stderr
    audit = json.loads((forgotten / "audit.json").read_text())
    assert audit["level"] == "b"
    by_key = {check["key"]: check for check in audit["verdict"]["checks"]}
    assert by_key["forget"]["outcome"] == "alike"
    missing = [s for s in audit["verdict"]["sentences"] if "ensemble of 2 members has no single head" in s]
    assert len(missing) == 3
    assert all(s.startswith("Not assessed") for s in missing)
    assert any("'logit mask' is not assessed: this model is an ensemble" in note for note in audit["notes"])
    answer = efface_command("verify", forgotten, "--original", original, "-q")
    assert answer.status == 4, answer.stdout + answer.stderr  # without a retrained model nobody can tell
    answer = efface_command(
        "forget", original, "--method", "fine-tune", "--classes", "3", "--out", tmp_path / "x", "-q"
    )
    assert answer.status == 2
    assert "ensemble of 2 members" in answer.stderr
    assert not (tmp_path / "x").exists()
