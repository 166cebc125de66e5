"""Malformed requests, manifests, checkpoints, images, arrays and settings: a clear error each, and nothing written."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from efface.data import Data, load
from efface.errors import InputError
from efface.files import read_mapping
from efface.models import load_weights, mlp
from efface.request import Request
from efface.running.extras import import_pillow
from tests.conftest import efface_command

FEW, MANY = 12, 250
"""Malformed inputs of each kind: in the plain suite, and in the slow one (more than 1,000 together)."""

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

TIMES = pytest.mark.parametrize("times", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


def altered(content: bytes, chance: random.Random) -> bytes:
    """Flip bytes, cut, double or insert: near the beginning half of the time, where headers are."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 20))):
        end = len(changed) if chance.random() < 0.5 else min(len(changed), 400)
        at = chance.randrange(max(end, 1))
        kind = chance.random()
        if kind < 0.6 and changed:
            changed[at] = chance.randrange(256)
        elif kind < 0.75:
            del changed[at : at + chance.randrange(40)]
        elif kind < 0.9:
            changed[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(20)))
        else:
            changed = changed[:at]
    return bytes(changed)


def refused(read: Callable[[], object]) -> bool:
    """Say whether something was refused; a refusal is an `InputError` of a sentence, and all else fails the test."""
    said: str | None = None
    try:
        read()
    except InputError as error:
        said = str(error)
    assert said is None or (len(said) > 15 and "Traceback" not in said)
    return said is not None


def saved(state: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


NETWORK = mlp(input_shape=(4,), hidden=[3], num_classes=2).state_dict()

CHECKPOINTS = {
    "w.pt": saved(NETWORK),
    "old.pt": saved(NETWORK, _use_new_zipfile_serialization=False),
    "last.ckpt": saved({"state_dict": {f"model.{k}": v for k, v in NETWORK.items()}, "epoch": 3, "loops": {"a": [1]}}),
    "w.safetensors": safetensors.torch.save(NETWORK),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHECKPOINTS)
@TIMES
def test_checkpoints(name: str, times: int, tmp_path: Path) -> None:
    chance, found = random.Random(1), 0
    for _ in range(times):
        (tmp_path / name).write_bytes(altered(CHECKPOINTS[name], chance))
        model = mlp(input_shape=(4,), hidden=[3], num_classes=2)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        if refused(lambda m=model: load_weights(m, tmp_path / name)):
            found += 1
            assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert found > times / 4


def data() -> Data:
    x = torch.arange(24.0).reshape(12, 2)
    pairs = TensorDataset(x, torch.arange(12) % 2)
    ids = [f"{i}.jpg" for i in range(12)]
    return Data.of(pairs, pairs, ids=ids, groups=list("abc") * 4, metadata={"year": range(12), "who": list("xyz") * 4})


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3))
FIELDS = st.sampled_from(["classes", "items", "ids", "groups", "where", "reason", "requested_at", "canaries", "other"])


@QUICK
@given(content=st.dictionaries(FIELDS, VALUES, max_size=3))
def test_requests_of_any_values(content: dict[str, Any]) -> None:
    """What is not refused names training records: some, each once, in order."""
    found: list[int] = []
    if not refused(lambda: found.extend(Request.of(**content).resolve(data()).indices.tolist())):
        assert found
        assert found == sorted(set(found) & set(range(12)))


COMMON = "year who and or not in ( ) [ ] == < >= = 'x' 3 - 1e999 , ."
ODD = ("lambda", "__import__('os')", "year.real", "f''", "{", "}", ":", "*", "\\", "\0", "\n", "é", "year if", ":=")
WORDS = st.sampled_from([*COMMON.split(), *ODD])


@QUICK
@given(words=st.lists(WORDS, max_size=12))
def test_conditions_of_any_words(words: list[str]) -> None:
    """What is not refused means, record by record, what Python makes of it."""
    text, found = " ".join(words) or "x", list[int]()
    if not refused(lambda: found.extend(Request.of(where=text).resolve(data()).indices.tolist())):
        rows = [{"year": year, "who": who} for year, who in zip(range(12), "xyz" * 4, strict=True)]
        assert found == [i for i, row in enumerate(rows) if eval(text, {}, row)]  # noqa: S307 - it has been read


@TIMES
def test_requests_in_files(times: int, tmp_path: Path) -> None:
    whole = json.dumps({"groups": ["a"], "reason": "ticket 7", "requested_at": "2026-01-02T03:04:05Z"}).encode()
    chance, found = random.Random(2), 0
    for _ in range(times):
        (tmp_path / "request.json").write_bytes(altered(whole, chance))
        found += refused(lambda: Request.read(tmp_path / "request.json").resolve(data()))
    assert found > times / 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i in range(4):
        import_pillow().new("RGB", (6, 6), (40 * i, 0, 0)).save(root / f"{i}.png")
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(4)], "label": ["a", "b"] * 2, "year": range(4)})
    for part in ("train", "test"):
        table.to_csv(root / f"{part}.csv", index=False)
    table.to_parquet(root / "whole.parquet", index=False)
    return root


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@TIMES
def test_manifests(kind: str, times: int, photos: Path) -> None:
    chance, found = random.Random(3), 0
    csv = (photos / "test.csv").read_bytes()
    whole = csv if kind == "csv" else (photos / "whole.parquet").read_bytes()
    (photos / "train.csv").unlink(missing_ok=True)
    for _ in range(times):
        (photos / f"train.{kind}").write_bytes(altered(whole, chance))
        found += refused(lambda: load("manifest", photos, size=4))
    (photos / f"train.{kind}").unlink()
    assert found > times / 4


@pytest.mark.filterwarnings("ignore")
@TIMES
def test_images(times: int, photos: Path, tmp_path: Path) -> None:
    chance, found = random.Random(4), 0
    whole = (photos / "3.png").read_bytes()
    for part in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            (tmp_path / part / label / "0.png").write_bytes(whole)
    for _ in range(times):
        (tmp_path / "train" / "a" / "0.png").write_bytes(altered(whole, chance))
        found += refused(lambda: load("image_folder", tmp_path, size=4))
    assert found > times / 4


@pytest.mark.filterwarnings("ignore")
@TIMES
def test_arrays(times: int, tmp_path: Path) -> None:
    x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1])
    buffer, chance, found = io.BytesIO(), random.Random(5), 0
    np.savez(buffer, x_train=x, y_train=y, x_test=x, y_test=y)
    for _ in range(times):
        (tmp_path / "data.npz").write_bytes(altered(buffer.getvalue(), chance))
        found += refused(lambda: load("arrays", tmp_path / "data.npz"))
    assert found > times / 4


def test_an_npz_of_a_later_zip_version_and_yaml_nested_deeply_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.zeros((4, 3)), y_train=np.zeros(4))
    content = buffer.getvalue()
    at = content.index(b"PK\x01\x02") + 6  # version needed to extract, of the central directory
    (tmp_path / "later.npz").write_bytes(content[:at] + b"\xff\x00" + content[at + 2 :])
    with pytest.raises(InputError, match=r"is not a readable \.npz of plain arrays: zip file version 25\.5"):
        load("arrays", tmp_path / "later.npz")
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 5_000 + "]" * 5_000)
    with pytest.raises(InputError, match=r"deep\.yaml is nested too deeply to be read"):
        read_mapping(tmp_path / "deep.yaml")


@pytest.mark.filterwarnings("ignore")
@TIMES
def test_settings_in_files(times: int, tmp_path: Path) -> None:
    whole = b"lr: 0.1\nepochs: 3\naugment: {crop: 2, flip: true}\nwhen: 2020-01-02\nlist: [1, 2e3, 'x']\n"
    chance, found = random.Random(6), 0
    for _ in range(times):
        (tmp_path / "recipe.yaml").write_bytes(altered(whole, chance))
        read: dict[str, Any] = {}
        if refused(lambda into=read: into.update(read_mapping(tmp_path / "recipe.yaml"))):
            found += 1
        else:
            assert read
            assert all(isinstance(name, str) for name in read)
    assert times / 10 < found < times


@pytest.mark.filterwarnings("ignore")
@TIMES
def test_the_command_ends_with_a_sentence_and_leaves_nothing_half_written(times: int, tmp_path: Path) -> None:
    """Of a few bytes of a checkpoint or a request: `import` and `forget` write a whole folder, or none."""
    network = mlp(input_shape=(1, 8, 8), hidden=[2], num_classes=10).state_dict()
    whole, chance = saved({"state_dict": network}), random.Random(7)
    asked = json.dumps({"items": [1, 2], "reason": "ticket"}).encode()
    (tmp_path / "good.pt").write_bytes(whole)
    built = ("--model", "mlp", "--model-set", "hidden=[2]", "--data", "digits", "--out", tmp_path / "out")
    for i in range(max(times // 10, 4)):
        (tmp_path / "w.pt").write_bytes(altered(whole, chance))
        (tmp_path / "request.json").write_bytes(altered(asked, chance))
        if i % 2:
            answer = efface_command("import", tmp_path / "w.pt", *built, "--overwrite")
        else:
            request = ("--request", tmp_path / "request.json", "-m", "gradient-ascent", "-q")
            answer = efface_command("forget", tmp_path / "good.pt", *built, *request, "--overwrite")
        assert answer.status in (0, 1, 2)
        if answer.status == 2:
            assert answer.stderr.startswith("error: ")
            assert not (tmp_path / "out").exists()
        elif (tmp_path / "out").exists():
            assert {"model.safetensors", "record.json"} <= {p.name for p in (tmp_path / "out").iterdir()}
            for file in (tmp_path / "out").iterdir():
                file.unlink()
            (tmp_path / "out").rmdir()
        assert not list(tmp_path.glob(".*"))
