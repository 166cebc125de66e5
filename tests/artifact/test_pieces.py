"""Shards and slices as files: each with its hash, and named with the way out when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from efface.artifact.artifact import foreign_to_artifact
from efface.artifact.pieces import file_of, prefix_of, read_piece, sorted_out
from efface.artifact.record import weights_sha256
from efface.errors import InputError


def test_states_of_members_are_files_and_the_rest_is_not() -> None:
    names = [
        "shards/3/1/0.weight",
        "shards/3/1/0.bias",
        "classes/0/0/phi.0.weight",
        "shards/x/1/a",
        "codes",
        "a/shards/1/1/b",
    ]
    memory = {name: torch.zeros(1) for name in names}
    pieces, rest = sorted_out(memory)
    assert {f: sorted(p) for f, p in pieces.items()} == {
        "shards/3/1.safetensors": ["shards/3/1/0.bias", "shards/3/1/0.weight"],
        "classes/0/0.safetensors": ["classes/0/0/phi.0.weight"],
    }
    assert sorted(rest) == ["a/shards/1/1/b", "codes", "shards/x/1/a"]
    assert prefix_of(file_of("shards/3/1/")) == "shards/3/1/"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: f.unlink(), "is missing"),
        (lambda f: f.write_bytes(f.read_bytes()[:-3]), "is damaged"),
        (lambda f: safetensors.torch.save_file({"shards/0/1/a": torch.ones(3)}, f), "was changed after writing"),
    ],
)
def test_a_damaged_piece_is_named_with_the_command_that_repairs_it(damage, said: str, tmp_path: Path) -> None:
    tensors, file = {"shards/0/1/a": torch.zeros(3)}, tmp_path / "shards" / "0" / "1.safetensors"
    file.parent.mkdir(parents=True)
    safetensors.torch.save_file(tensors, file)
    found = read_piece(tmp_path, "shards/0/1.safetensors", weights_sha256(tensors))
    assert torch.equal(found["shards/0/1/a"], torch.zeros(3))
    damage(file)
    with pytest.raises(InputError, match=rf"shards/0/1.safetensors {said}.*`efface repair {tmp_path}`"):
        read_piece(tmp_path, "shards/0/1.safetensors", weights_sha256(tensors))


def test_pieces_are_an_artifacts_own_and_what_lies_among_them_is_not(tmp_path: Path) -> None:
    (tmp_path / "shards" / "0").mkdir(parents=True)
    (tmp_path / "shards" / "0" / "1.safetensors").touch()
    assert foreign_to_artifact(tmp_path) == ["shards"]  # without a record
    (tmp_path / "record.json").touch()
    assert foreign_to_artifact(tmp_path) == []
    (tmp_path / "classes").mkdir()
    assert foreign_to_artifact(tmp_path) == ["classes"]  # an empty folder is somebody's
    (tmp_path / "classes").rmdir()
    (tmp_path / "shards" / "0" / "notes.txt").touch()
    assert foreign_to_artifact(tmp_path) == ["shards"]
