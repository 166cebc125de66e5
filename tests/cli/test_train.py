"""Training from the shell: canaries on their way through all verbs, flags that do not belong, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import efface_command

BUILT = ("--data", "digits", "--model", "mlp", "--model-set", "hidden=[64]")
RECIPE = ("optimiser=adam", "lr=0.01", "epochs=12", "batch_size=64", "weight_decay=0")


@pytest.mark.seconds
def test_a_request_with_canaries_from_training_to_verification(tmp_path: Path) -> None:
    original, forgotten = tmp_path / "original", tmp_path / "forgotten"
    recipe = [part for field in RECIPE for part in ("--recipe-set", field)]
    answer = efface_command("train", *BUILT, *recipe, "--canaries", "30", "--out", original, "-q")
    assert answer.status == 0, answer.stderr
    asked = ("--items", "100,101", "--with-canaries", "--out", forgotten, "-m", "retrain", "-q")
    answer = efface_command("forget", original, *asked)
    assert answer.status == 0, answer.stderr
    assert "32 records asked for: 32 to forget; 30 of them canaries" in answer.stdout
    answer = efface_command("audit", forgotten, "--original", original, "--retrain", "-q")
    assert answer.status == 0, answer.stderr
    assert "canaries" in (forgotten / "report.md").read_text()
    answer = efface_command("verify", forgotten, "--original", original, "--retrained", forgotten, "-q")
    assert "scores of 'retrain'" in answer.stdout


def test_flags_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    base = ("train", *BUILT, "--out", tmp_path / "out", "-q")
    for flags, said in (
        (("--canaries", "900"), "a tenth of them"),
        (("--with-canaries",), "go with --references N"),
        (("--references", "2", "--from", tmp_path, "--items", "1", "--canaries", "4"), "say --with-canaries"),
    ):
        answer = efface_command(*base, *flags)
        assert answer.status == 2
        assert said in answer.stderr.replace("\n", " ")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_note_of_the_record_is_said_once(tmp_path: Path, form: list[str]) -> None:
    options = ("--data", "digits", "--model", "mlp", "--recipe-set", "epochs=2", "--recipe-set", "lr=0.01")
    answer = efface_command("train", *options, "--out", tmp_path / "out", *form)
    said = "training ended while its loss still fell"
    assert (answer.stdout.count(said), answer.stderr.count(said)) == ((1, 1) if form else (1, 0))
