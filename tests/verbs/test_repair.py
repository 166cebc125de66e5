"""What is damaged is made again to the same bits; what cannot be is refused, and nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import efface
from efface.artifact.artifact import MODEL, Artifact
from efface.data import Data, load
from efface.errors import InputError
from efface.methods.applying import rebuilt
from efface.request import Request
from efface.training.recipe import Recipe
from efface.verbs.repair import repair
from tests.conftest import efface_command

RECIPE = Recipe(optimiser="adam", lr=3e-3, epochs=2, batch_size=64)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sisa": ("sisa", {"shards": 2, "slices": 3}),
    "arcane": ("arcane", {"score": "svdd", "blocks": 2, "epochs": 3, "batch_size": 32}),
    "pca": ("arcane", {}),
}


@pytest.fixture(scope="module")
def data() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def folders(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifacts that have forgotten a class, then a record."""
    made = {}
    for kind, (method, settings) in KINDS.items():
        trained = efface.train("mlp", data, method=method, settings=settings, recipe=RECIPE, device="cpu")
        for asked in (Request(classes=[3]), Request(items=[5])):
            trained = efface.forget(trained, data, asked, method=method, device="cpu")
        made[kind] = trained.save(tmp_path_factory.mktemp(kind) / "made")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("sisa", ["shards/0/0.safetensors"]),
        ("sisa", ["shards/1/1.safetensors"]),
        ("sisa", ["shards/0/1.safetensors", "shards/1/0.safetensors"]),
        ("sisa", [MODEL]),
        ("sisa", [MODEL, "shards/0/0.safetensors", "shards/1/1.safetensors"]),
        ("arcane", ["classes/7/0.safetensors"]),
        ("arcane", [MODEL, "classes/0/0.safetensors"]),
        ("pca", [MODEL]),
    ],
    ids=lambda v: v if isinstance(v, str) else "+".join(v),
)
def test_lost_files_come_back_bit_for_bit(
    kind: str, lost: list[str], folders: dict[str, Path], data: Data, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / "damaged")
    before = contents(folder)
    for k, file in enumerate(lost):
        (folder / file).write_bytes(b"torn") if k else (folder / file).unlink()
    with pytest.raises(InputError, match=lost[0].replace(".", r"\.")):
        Artifact.load(folder, rebuild=rebuilt)
    assert repair(folder, data, device="cpu") == tuple(sorted(lost))
    assert contents(folder) == before
    Artifact.load(folder, rebuild=rebuilt)
    assert repair(folder, data, device="cpu") == ()


def test_from_the_shell_a_damaged_shard_says_what_to_run_and_that_works(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["sisa"], tmp_path / "damaged")
    (folder / "shards" / "1" / "0.safetensors").write_bytes(b"torn")
    out = tmp_path / "out"
    answer = efface_command("forget", folder, "--method", "sisa", "--items", "9", "--out", out, "-q")
    assert answer.status == 2
    assert f"efface repair {folder}" in answer.stderr
    assert not out.exists()
    answer = efface_command("verify", folder, "-q")
    assert "shards/1/0.safetensors" in answer.stdout
    answer = efface_command("repair", folder, "-q")
    assert (answer.status, answer.stdout) == (0, "made again: shards/1/0.safetensors\n")
    assert efface_command("repair", folder, "-q").stdout.startswith("nothing to do")
    assert efface_command("forget", folder, "--method", "sisa", "--items", "9", "--out", out, "-q").status == 0


def test_other_bits_are_refused_and_nothing_is_written(folders: dict[str, Path], data: Data, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["sisa"], tmp_path / "damaged")
    (folder / "shards" / "0" / "1.safetensors").unlink()
    record = (folder / "record.json").read_text()
    (folder / "record.json").write_text(record.replace('"lr": 0.003', '"lr": 0.004'))
    before = contents(folder)
    with pytest.raises(InputError, match="other bits than were recorded"):
        repair(folder, data, device="cpu")
    assert contents(folder) == before


def test_what_no_method_can_make_again_is_refused(data: Data, tmp_path: Path) -> None:
    plain = efface.train("mlp", data, recipe=RECIPE, device="cpu")
    folder = plain.save(tmp_path / "plain")
    (folder / MODEL).unlink()
    with pytest.raises(InputError, match=r"model.safetensors: nothing is left of a plain training"):
        repair(folder, data)
    coded = efface.train("mlp", data, method="mnemonic", recipe=RECIPE, device="cpu").save(tmp_path / "coded")
    safetensors.torch.save_file({}, coded / MODEL)
    with pytest.raises(InputError, match=r"what mnemonic left cannot be computed again"):
        repair(coded, data)


def test_other_data_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["sisa"], tmp_path / "damaged")
    (folder / MODEL).unlink()
    with pytest.raises(InputError, match="not the data that the artifact was trained on"):
        repair(folder, load("digits", test_fraction=0.2))
