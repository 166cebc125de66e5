"""An ensemble on its whole way through the command line: trained, forgotten from, audited, verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import efface
from tests.conftest import SMALL, efface_command

SPEC = efface.ModelSpec(build="mlp", arguments={"hidden": [64], "activation": "relu"})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members of two slices that have forgotten record 7."""
    folder = tmp_path_factory.mktemp("shards")
    start = (
        "train",
        *SMALL,
        "--method",
        "sisa",
        "--set",
        "shards=3",
        "--set",
        "slices=2",
        "--out",
        folder / "original",
    )
    assert efface_command(*start).status == 0
    deletion = ("forget", folder / "original", "-m", "sisa", "--items", "7", "--out", folder / "made", "-q")
    assert efface_command(*deletion).status == 0
    return folder / "made"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ("forget", "MADE", "-m", "sisa", "--items", "7"),
            "already forgotten by earlier requests of this artifact; leave it out",
        ),
        (("forget", "MADE", "-m", "fine-tune", "--items", "9"), "methods that do not: arcane, retrain, sisa"),
        (
            ("forget", "MADE", "-m", "sisa", "--groups", "anna"),
            "no group ids; give `groups` when making the Data",
        ),
        (
            ("forget", "MADE", "-m", "arcane", "--items", "9"),
            "efface train --method arcane`, or use retrain",
        ),
        (("forget", "MADE", "-m", "sisa", "--items", "9", "--backend", "vmap"), "not 'vmap'"),
        (("forget", "MADE", "--items", "9", "--checkpoints", "kept"), "checkpoints are for one method"),
        (
            ("train", *SMALL, "--method", "sisa", "--set", "groups=true"),
            "give `groups` when making the Data, or train without groups=true",
        ),
        (("train", *SMALL, "--method", "sisa", "--set", "shards=900"), "too few for 900 x 5 slices"),
        (("train", *SMALL, "--backend", "processes"), "sisa, arcane"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_cannot_be_done_names_a_way_out_and_loses_nothing(
    command: tuple[str, ...], said: str, shards: Path, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in shards.rglob("*") if p.is_file()}
    answer = efface_command(*(shards if a == "MADE" else a for a in command), "--out", tmp_path / "out")
    assert (answer.status, answer.stdout) == (2, "")
    assert said in answer.stderr
    assert not (tmp_path / "out").exists()
    assert {p: p.read_bytes() for p in shards.rglob("*") if p.is_file()} == before


def test_a_request_that_touches_every_shard_says_that_it_is_a_retraining(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = efface_command("forget", shards, "-m", "sisa", "--classes", "3", "--out", out)
    assert answer.status == 0, answer.stderr
    said = "sisa: 3 of 3 shards trained again; that is every shard, so this is a retraining"
    assert "every shard is touched, so this is a retraining" in answer.stderr  # when it begins
    assert json.loads((out / "record.json").read_text())["notes"][0] == said
    assert said in answer.stdout


def test_a_spent_certificate_is_refused_and_the_head_can_be_trained_anew(tmp_path: Path) -> None:
    original, out = tmp_path / "original", tmp_path / "out"
    assert efface_command("train", *SMALL, "--method", "certified-removal", "--out", original).status == 0
    before = (original / "model.safetensors").read_bytes()
    asked = ("-m", "certified-removal", "--items", "7", "--set", "epsilon=1e-9")
    deletion = ("forget", original, *asked, "--out", out, "-q")
    answer = efface_command(*deletion)
    assert answer.status == 2
    assert "the certificate does not cover this request" in answer.stderr
    assert "when_spent=retrain" in answer.stderr
    assert not out.exists()
    assert (original / "model.safetensors").read_bytes() == before
    assert efface_command(*deletion, "--set", "when_spent=retrain").status == 0


@pytest.mark.seconds
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [("sisa", {"shards": 3, "slices": 2}), ("arcane", {})],
)
def test_exact_methods_pass_level_c_over_a_chain(method: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Beside four ensembles retrained the same way, from other seeds: the second request of two, and the first."""
    data = efface.load_data("digits")
    recipe = efface.Recipe(optimiser="adam", lr=2e-3, weight_decay=0, epochs=12, batch_size=64)
    before = efface.train(SPEC, data, method=method, settings=settings, recipe=recipe, device="cpu")
    for number, request in enumerate((efface.Request(items=list(range(0, 200, 20))), efface.Request(classes=[3]))):
        made = efface.forget(before, data, request, method=method, device="cpu")
        there = tmp_path / str(number)
        judges = efface.train_references(before, data, request, 4, there, backend="serial", device="cpu")
        audit = efface.audit(made, data, original=before, retrained=judges, device="cpu")
        assert audit.level == "c"
        assert [c.key for c in audit.verdict.checks if c.outcome == "differs"] == []
        assert audit.verdict.useful == "alike"
        before = made
