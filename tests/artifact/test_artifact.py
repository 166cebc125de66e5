"""Artifacts: what is written is what is read back; damaged, foreign and altered folders are refused; hashes."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from efface.artifact.artifact import MEMORY, MODEL, RECORD, Artifact
from efface.artifact.case import Case
from efface.artifact.case import given as wrapped
from efface.artifact.record import bit_sums, weights_sha256
from efface.data import Data, Split, load
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import make
from efface.methods.method import need_memory
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

SPEC = ModelSpec(build="mlp", arguments={"hidden": [16]})


@pytest.fixture(scope="module")
def data() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def artifact(data: Data) -> Artifact:
    model = build(SPEC, input_shape=(1, 8, 8), num_classes=10)
    made = prepare(None, model, Split.of(data), Recipe(lr=0.1, epochs=2), Run(device="cpu"), spec=SPEC)
    made.memory = {
        "codes": torch.rand(10, 3, 4).permute(2, 0, 1),  # not contiguous
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(5),
        "half": torch.rand(3).bfloat16(),
    }
    return made


def test_what_is_read_back_is_what_was_written(artifact: Artifact, tmp_path: Path) -> None:
    path = artifact.save(tmp_path / "model")
    back = Artifact.load(path)
    assert back.record == artifact.record
    assert back.path == path
    for name, tensor in artifact.model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], tensor)
    assert back.memory.keys() == artifact.memory.keys()
    for name, tensor in artifact.memory.items():
        assert back.memory[name].dtype == tensor.dtype
        assert torch.equal(back.memory[name], tensor)
    assert not back.model.training
    assert sorted(p.name for p in path.iterdir()) == sorted([MODEL, MEMORY, RECORD])


def test_no_memory_no_file_and_extra_files_come_along(artifact: Artifact, tmp_path: Path) -> None:
    bare = dataclasses.replace(artifact, memory={})
    bare.save(tmp_path / "bare", extra=lambda folder: (folder / "report.md").write_text("report"))
    assert not (tmp_path / "bare" / MEMORY).exists()
    assert (tmp_path / "bare" / "report.md").read_text() == "report"
    assert Artifact.load(tmp_path / "bare").memory == {}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_half_way_leaves_nothing_behind(
    artifact: Artifact, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []

    def full(tensors: dict[str, torch.Tensor], file: Path) -> None:
        if written:
            raise error
        written.append(file)
        Path(file).write_bytes(b"x")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(type(error)):
        artifact.save(tmp_path / "model")
    assert written
    assert list(tmp_path.iterdir()) == []


def test_overwriting_is_asked_for(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "model")
    with pytest.raises(InputError, match="overwrit"):
        artifact.save(tmp_path / "model")
    artifact.save(tmp_path / "model", overwrite=True)
    assert Artifact.load(tmp_path / "model").record == artifact.record


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    return artifact.save(tmp_path / "model")


@pytest.mark.parametrize(
    ("added", "removed", "named"),
    [
        ("notes.txt", "", "notes.txt"),
        ("other/model.safetensors", "", "other"),
        ("record.json/file", RECORD, "record.json"),
        ("", RECORD, MODEL),
        ("report.html", "", "report.html"),
    ],
)
def test_what_efface_did_not_write_is_not_overwritten(artifact: Artifact, folder: Path, added, removed, named) -> None:
    """Weights without a record are somebody's own; so are pages without an audit, and whatever else."""
    if removed:
        (folder / removed).unlink()
    if added:
        (folder / added).parent.mkdir(exist_ok=True)
        (folder / added).write_text("mine")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=f"did not write there: .*{named}"):
        artifact.save(folder, overwrite=True)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_damaged_or_half_written_artifact_is_overwritten(artifact: Artifact, folder: Path) -> None:
    (folder / RECORD).write_text("{")
    (folder / MODEL).unlink()
    artifact.save(folder, overwrite=True)
    assert Artifact.load(folder).record == artifact.record


def test_altered_weights_are_noticed(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / MODEL)
    state["fc1.bias"][0] += 1e-6
    safetensors.torch.save_file(state, folder / MODEL)
    with pytest.raises(InputError, match="changed after writing"):
        Artifact.load(folder)


@pytest.mark.parametrize("file", [MODEL, MEMORY, RECORD])
@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_damaged_files_are_refused_by_name(folder: Path, file: str, damage: str) -> None:
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(InputError, match=file.replace(".", r"\.")):
        Artifact.load(folder)


@pytest.mark.parametrize("file", [MODEL, RECORD])
def test_missing_files_are_refused_by_name(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(InputError, match=file.replace(".", r"\.")):
        Artifact.load(folder)
    with pytest.raises(InputError, match="not an artifact folder"):
        Artifact.load(folder / "nowhere")


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    safetensors.torch.save_file({"conv.weight": torch.zeros(2, 2)}, folder / MODEL)
    with pytest.raises(InputError, match="do not fit the model"):
        Artifact.load(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / MODEL)
    state["fc1.weight"][0, 0] = float("nan")
    safetensors.torch.save_file(state, folder / MODEL)
    with pytest.raises(InputError, match=r"fc1\.weight"):
        Artifact.load(folder)


def test_a_pickle_in_the_place_of_the_weights_is_never_run(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Trap(), folder / MODEL)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        Artifact.load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_record_that_names_foreign_code_needs_trust(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    record["model"]["build"] = "os:system"
    record["model"]["arguments"] = {"command": "true"}
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="trust"):
        Artifact.load(folder)


def test_unknown_fields_in_a_record_are_refused(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    record["surprise"] = 1
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="surprise"):
        Artifact.load(folder)


def test_a_model_handed_over_in_python_is_loaded_into_one(data: Data, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    made = wrapped(model, Split.of(data), Recipe(), Run(device="cpu"))
    assert made.record.action == "given"
    made.save(tmp_path / "given")
    with pytest.raises(InputError, match="pass a module of the same architecture"):
        Artifact.load(tmp_path / "given")
    back = Artifact.load(tmp_path / "given", nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert torch.equal(back.model[1].weight, model[1].weight)
    with torch.no_grad():
        model[1].weight.zero_()
    assert made.model[1].weight.abs().sum() > 0, "the artifact holds a copy"


def test_a_chain_of_requests_is_recorded(artifact: Artifact, data: Data, tmp_path: Path) -> None:
    first = Request.of(classes=[0], reason="asked")
    once = apply(make("logit-mask"), Case(artifact, Split.of(data, first), Run(device="cpu")))
    second = Request.of(classes=[4])
    split = Split.of(data, second, earlier=once.record.earlier_requests)
    twice = apply(make("logit-mask"), Case(once, split, Run(device="cpu")))
    twice.save(tmp_path / "twice")
    record = Artifact.load(tmp_path / "twice").record
    assert [r.action for r in record.chain] == ["train", "forget", "forget"]
    assert record.earlier_requests == (first, second)
    for earlier, later in zip(record.chain[:-1], record.chain[1:], strict=True):
        assert later.weights_before == earlier.weights_after
    assert record.chain[1].request_fingerprint == Split.of(data, first).resolved.fingerprint


def test_cached_importances_do_not_outlive_the_weights_they_describe(artifact: Artifact, data: Data) -> None:
    held = dataclasses.replace(artifact, memory={"codes": torch.ones(1), "cache/fisher": torch.ones(1)})
    made = apply(make("logit-mask"), Case(held, Split.of(data, Request.of(classes=[0])), Run(device="cpu")))
    assert list(made.memory) == ["codes"]
    assert list(held.memory) == ["codes", "cache/fisher"]


def test_need_memory_says_what_is_missing(artifact: Artifact) -> None:
    method = make("logit-mask")
    assert need_memory(artifact, "mask", method, "") is artifact.memory["mask"]
    with pytest.raises(InputError, match="train it with efface"):
        need_memory(artifact, "shards", method, "train it with efface")


def test_the_record_holds_no_path_of_this_machine(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "model")
    assert str(tmp_path) not in (tmp_path / "model" / RECORD).read_text()


values = st.lists(st.floats(-5, 5, width=32), max_size=4).map(lambda v: torch.tensor(v, dtype=torch.float32))
tensors = st.dictionaries(st.text("abc.", min_size=1, max_size=4), values, max_size=4)


@given(tensors, tensors)
def test_hashes_agree_exactly_if_the_weights_do(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    def content(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
        return {k: v.numpy().tobytes() for k, v in state.items()}

    assert (weights_sha256(a) == weights_sha256(b)) == (content(a) == content(b))
    assert weights_sha256(dict(reversed(a.items()))) == weights_sha256(a)


def test_hash_depends_on_names_types_shapes_and_one_bit() -> None:
    x = torch.arange(6, dtype=torch.float32)
    flipped = x.clone()
    flipped.view(torch.int32)[3] ^= 1
    states = [
        {"a": x},
        {"b": x},
        {"a": x.reshape(2, 3)},
        {"a": x.double()},
        {"a": x.view(torch.int32)},
        {"a": flipped},
        {"a": torch.tensor(1.0)},
        {"a": torch.tensor(True)},
        {"a": torch.empty(0)},
        {},
    ]
    assert len({weights_sha256(s) for s in states}) == len(states)
    assert weights_sha256({"a": x.reshape(2, 3).t()}) == weights_sha256({"a": x.reshape(2, 3).t().contiguous()})


def test_prepare_does_not_change_the_model_it_is_given(data: Data) -> None:
    model = build(SPEC, input_shape=(1, 8, 8), num_classes=10)
    before = copy.deepcopy(model.state_dict())
    made = prepare(None, model, Split.of(data), Recipe(epochs=1), Run(device="cpu"), spec=SPEC)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert made.record.weights_before == weights_sha256(before)
    assert made.record.weights_after == weights_sha256(made.model.state_dict()) != made.record.weights_before


def test_weights_are_hashed_again_only_after_a_change(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counted(state: dict[str, torch.Tensor]) -> str:
        hashed.append(1)
        return weights_sha256(state)

    monkeypatch.setattr("efface.artifact.artifact.weights_sha256", counted)
    copied = Artifact(copy.deepcopy(artifact.model), artifact.record)
    assert copied.weights_sha256 == copied.weights_sha256 == weights_sha256(copied.model.state_dict())
    assert len(hashed) == 1
    with torch.no_grad():
        next(copied.model.parameters()).add_(1)
    assert copied.weights_sha256 == weights_sha256(copied.model.state_dict()) != artifact.weights_sha256


def test_changes_that_torch_does_not_count_are_noticed(artifact: Artifact) -> None:
    copied = Artifact(copy.deepcopy(artifact.model), artifact.record)
    before = copied.weights_sha256
    weight = next(copied.model.parameters())
    counted = weight._version
    weight.data[0, 0] += 1
    assert weight._version == counted
    assert copied.weights_sha256 == weights_sha256(copied.model.state_dict()) != before


def test_sums_of_bits_by_hand() -> None:
    """Eight bytes at a time, and what is left over one by one; 1.0 is 0x3f800000, 2.0 is 0x40000000."""
    state = {
        "bytes": torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 3, 250], dtype=torch.uint8),
        "truth": torch.tensor([True, False, True]),
        "small": torch.tensor([1.0, -1.0]).bfloat16(),  # 0x3f80 and 0xbf80, the latter negative as a whole number
        "float": torch.tensor([[1.0, 2.0], [0.0, -0.0]]).T,
        "shift": torch.tensor([2.0, 1.0, 1.0])[1:],
        "odd": torch.tensor([0.0, 1.0, 2.0]),
        "long": torch.tensor(7),
        "pair": torch.tensor([1.0 + 2.0j]),
        "none": torch.empty(0, 3),
    }
    expected = {
        "bytes": 1 + 2**56 + 253,
        "truth": 2,
        "small": 0x3F80 + 0xBF80 - 2**16,
        "float": 0x3F800000 + 0x40000000 - 2**63,  # in order of rows: 1, 0, 2, -0
        "shift": 0x3F800000 + 2**32 * 0x3F800000,
        "odd": 2**32 * 0x3F800000 + 0x40000000,
        "long": 7,
        "pair": 0x3F800000 + 2**32 * 0x40000000,
        "none": 0,
    }
    assert dict(zip(state, bit_sums(state), strict=True)) == expected


def test_forgetting_hashes_each_models_weights_once(
    artifact: Artifact, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original's when it is read, the new model's when it is recorded."""
    hashed: list[str] = []

    def counted(state: dict[str, torch.Tensor]) -> str:
        hashed.append(weights_sha256(state))
        return hashed[-1]

    dataclasses.replace(artifact, memory={}).save(tmp_path / "model")
    for where in ("artifact.artifact", "methods.applying"):
        monkeypatch.setattr(f"efface.{where}.weights_sha256", counted)
    original = Artifact.load(tmp_path / "model")
    run = Run(device="cpu")
    made = apply(make("ssd", {"alpha": 1.0}), Case(original, Split.of(data, Request.of(classes=[0])), run))
    assert hashed == [original.record.weights_after, made.record.weights_after]


@pytest.mark.parametrize("how", ["counted", "not counted"])
def test_a_method_that_changes_its_input_model_is_stopped(
    artifact: Artifact, data: Data, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make("fine-tune")

    def careless(self: object, given: Artifact, split: Split, run: Run) -> nn.Module:
        weight = next(given.model.parameters()).detach() if how == "counted" else next(given.model.parameters()).data
        weight += 1
        return run.copied(given.model)

    monkeypatch.setattr(type(method), "forget", careless)
    held = Artifact(copy.deepcopy(artifact.model), artifact.record)
    with pytest.raises(RuntimeError, match="fine-tune changed its input model; this is a defect of the method"):
        apply(method, Case(held, Split.of(data, Request.of(classes=[0])), Run(device="cpu")))


def test_a_full_disk_has_the_systems_own_error(artifact: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    artifact.save(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            artifact.save(folder, overwrite=True)
    assert caught.value.errno == errno.ENOSPC
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_old_folder_that_was_left_aside_is_read_from_its_place(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.abcd1234.efface-old")
    assert Artifact.load(tmp_path / "model").record == artifact.record
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
