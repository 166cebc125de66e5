"""A folder against its record, made by hand: what was changed is named, word by word."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from efface.artifact.artifact import Artifact
from efface.artifact.record import DataRecord, Record, weights_sha256
from efface.data import ArraySamples, Data
from efface.errors import InputError
from efface.request import Request
from efface.running.machine import Machine
from efface.training.recipe import Recipe
from efface.verifying.record import check_folder, check_origin, recorded_audit
from tests.report.conftest import build

WEIGHTS = {"w": torch.arange(4.0)}
MEMORY = {"codes": torch.ones(2)}
THEN = datetime(2026, 3, 5, 6, 7, tzinfo=UTC)
SAMPLES = ArraySamples(torch.arange(6.0)[:, None], np.arange(6) % 2)
DATA = Data("six", SAMPLES, SAMPLES, ("even", "odd"))
REQUEST = Request(classes=(1,))
HERE = Machine.here()


def record(**changes) -> Record:
    described = {"source": "custom", "options": {}, "classes": ("even", "odd"), "input_shape": (1,), "train_size": 6}
    shared = {
        "model": None,
        "data": DataRecord(fingerprint=DATA.fingerprint, validation=0.1, split_seed=0, **described),
        "recipe": Recipe(),
        "settings": {},
        "seed": 7,
        "device": "cpu",
        "seconds": {},
        "versions": {},
    }
    first = Record(action="train", method="plain", created=THEN, weights_after="b" * 64, **shared)
    fields = {
        "action": "forget",
        "method": "decay",
        "created": THEN + timedelta(hours=1),
        "request": REQUEST,
        "request_fingerprint": REQUEST.resolve(DATA).fingerprint,
        "weights_before": "b" * 64,
        "weights_after": weights_sha256(WEIGHTS),
        "parent": first,
    }
    return Record(**{**shared, **fields, **changes})


@pytest.fixture
def checked(tmp_path):
    """Write a record with weights (and memory) beside it, and return the findings by subject."""

    def run(
        found: Record, *, memory: bool = False, data: Data | None = None, weights=WEIGHTS
    ) -> dict[str, tuple[str, str]]:
        (tmp_path / "record.json").write_text(found.model_dump_json())
        if weights is not None:
            safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
        if memory:
            safetensors.torch.save_file(MEMORY, tmp_path / "memory.safetensors")
        read, findings = check_folder(tmp_path, data)
        assert read == found
        return {f.subject: (f.outcome, f.text) for f in findings}

    return run


def test_an_intact_folder_holds(checked):
    sha = weights_sha256(WEIGHTS)[:12]
    assert checked(record(), data=DATA) == {
        "weights": ("holds", f"SHA-256 {sha}..."),
        "memory": ("holds", "none recorded, and none there"),
        "record chain": ("holds", "2 steps fit together: plain, decay (class 1)"),
        "data": ("holds", f"fingerprint {DATA.fingerprint[:12]}..., as recorded"),
        "request": ("holds", "class 1 means the recorded records"),
        "copies": ("holds", "no draft and no old copy lies beside the folder"),
    }
    assert checked(record())["data"] == ("not checked", "the data was not given")


def test_weights_that_were_changed_or_are_missing_are_named(checked, tmp_path):
    found = checked(record(weights_after="f" * 64))["weights"]
    sha = weights_sha256(WEIGHTS)[:12]
    words = f"model.safetensors was changed after writing: SHA-256 {sha}..., recorded {'f' * 12}..."
    assert found == ("fails", words)
    (tmp_path / "model.safetensors").unlink()
    outcome, text = checked(record(), weights=None)["weights"]
    assert outcome == "fails"
    assert text.startswith("model.safetensors is missing or damaged: ")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert checked(record(), weights=None)["weights"][0] == "fails"


def test_memory_is_checked_as_weights_are(checked, tmp_path):
    sha = weights_sha256(MEMORY)
    missing = checked(record(memory_after=sha))["memory"]
    assert missing[0] == "fails"
    assert missing[1].startswith("memory.safetensors is missing or damaged: ")
    assert checked(record(memory_after=sha), memory=True)["memory"] == ("holds", f"SHA-256 {sha[:12]}...")
    assert checked(record(memory_after="f" * 64), memory=True)["memory"] == (
        "fails",
        f"memory.safetensors was changed after writing: SHA-256 {sha[:12]}..., recorded {'f' * 12}...",
    )
    assert checked(record(), memory=True)["memory"] == (
        "not checked",
        "the record holds no hash of memory.safetensors; it was written by an earlier version, or the file was added",
    )


def test_steps_that_do_not_fit_are_named(checked):
    other = record().data.model_copy(update={"fingerprint": "0" * 64})
    found = checked(record(weights_before="c" * 64, created=THEN - timedelta(seconds=1), data=other))
    assert found["record chain"] == (
        "fails",
        "step 1 (decay) does not start from the weights that step 0 ended in; step 1 (decay) names other data than "
        "step 0; step 1 (decay) is dated before step 0",
    )
    assert checked(record(created=THEN))["record chain"][0] == "holds"
    assert checked(record(parent=None, weights_before=None))["record chain"] == (
        "holds",
        "1 step fits together: decay (class 1)",
    )


def test_other_data_and_other_records_are_named(checked):
    other = Data("six", ArraySamples(SAMPLES.inputs + 1, SAMPLES.labels), SAMPLES, ("even", "odd"))
    found = checked(record(), data=other)
    words = f"fingerprint {other.fingerprint[:12]}..., recorded {DATA.fingerprint[:12]}..."
    assert found["data"][0] == "fails"
    assert words in found["data"][1]
    assert "request" not in found
    assert checked(record(request_fingerprint="e" * 64), data=DATA)["request"] == (
        "fails",
        "class 1 means other records than were recorded",
    )
    outcome, text = checked(record(request=Request(classes=(5,))), data=DATA)["request"]
    assert outcome == "fails"
    assert text.startswith("class 5: ")


def test_every_step_with_a_request_is_resolved_again(checked, tmp_path):
    first = record(weights_after="d" * 64, request=Request(classes=(5,)))
    second = record(parent=first, weights_before="d" * 64, created=THEN + timedelta(hours=2))
    (tmp_path / "record.json").write_text(second.model_dump_json())
    _, findings = check_folder(tmp_path, DATA)
    assert [f.outcome for f in findings if f.subject == "request"] == ["fails", "holds"]


def test_a_record_that_cannot_be_read_fails_and_a_folder_without_one_is_bad_input(tmp_path):
    with pytest.raises(InputError):
        check_folder(tmp_path)
    (tmp_path / "record.json").write_text("{}")
    found, (finding,) = check_folder(tmp_path)
    assert found is None
    assert (finding.subject, finding.outcome) == ("record", "fails")
    assert "record.json is damaged" in finding.text


def test_the_original_is_known_by_its_weights():
    def origin(made: Record, weights: str) -> tuple[str, str]:
        original = Artifact(torch.nn.Identity(), record(weights_after=weights), {})
        finding = check_origin(made, original)
        assert finding.subject == "original"
        return finding.outcome, finding.text

    assert origin(record(), "b" * 64) == ("holds", "the artifact was made from the weights of this original")
    assert origin(record(), "c" * 64) == (
        "fails",
        f"the record starts from weights {'b' * 12}..., this original has {'c' * 12}...",
    )
    later = record(weights_before=record().weights_after, parent=record())
    assert origin(later, "b" * 64)[0] == "holds"  # an audit of all requests starts from before the first
    for changes in ({"weights_before": None}, {"parent": None}):
        assert origin(record(**changes), "b" * 64) == ("fails", "the record does not say what it was made from")


def test_other_weights_of_an_original_made_alike_are_explained_by_the_machine():
    """Never excused: it fails all the same."""

    def found(**changes) -> str:
        parent = record().parent.model_copy(update={"machine": changes.pop("recorded", HERE)})
        other = parent.model_copy(update={"weights_after": "c" * 64, "machine": HERE, **changes})
        finding = check_origin(record(parent=parent), Artifact(torch.nn.Identity(), other, {}))
        assert finding.outcome == "fails"
        return finding.text

    two = HERE.model_copy(update={"threads": 2 + HERE.threads})
    assert f"but with {2 + HERE.threads} threads instead of {HERE.threads}: bits may differ" in found(machine=two)
    assert "on an equal machine, where the bits should be equal, too" in found()
    assert "where is not recorded" in found(machine=None)
    assert "where is not recorded" in found(recorded=None)
    for another in ({"seed": 8}, {"recipe": Recipe(epochs=99)}, {"settings": {"x": 1}}, {"method": "sisa"}):
        assert found(machine=two, **another).endswith("this original has cccccccccccc...")


def test_whether_it_can_be_made_again_with_the_same_bits_is_said(checked):
    assert checked(record(machine=HERE))["machine"] == (
        "holds",
        f"as recorded: {HERE}; made again here, it has the same bits",
    )
    outcome, text = checked(record(machine=HERE.model_copy(update={"threads": 99})))["machine"]
    assert (outcome, text) == (
        "not checked",
        f"here {HERE.threads} threads instead of 99: made again here, its bits may differ",
    )
    assert "machine" not in checked(record())


def test_an_audit_belongs_to_the_record_that_names_the_same(tmp_path: Path):
    assert recorded_audit(tmp_path, record()) == (None, [])
    fitting = {"request_fingerprint": "e" * 64, "data_fingerprint": DATA.fingerprint, "candidate": "mnemonic"}
    mine = record(request_fingerprint="e" * 64, method="mnemonic")
    file = tmp_path / "audit.json"

    def finding(**changes: str) -> tuple[str, str]:
        file.write_text(build(**{**fitting, **changes}).to_json())
        audit, (found,) = recorded_audit(tmp_path, mine)
        assert audit is not None
        assert found.subject == "audit"
        return found.outcome, found.text

    assert finding() == ("holds", "audit.json is about this record's request, data and method")
    other = "audit.json is about something else than the record; different: "
    assert finding(request_fingerprint="f" * 64) == ("fails", other + "request")
    assert finding(data_fingerprint="f" * 64) == ("fails", other + "data")
    assert finding(candidate="logit mask", data_fingerprint="f" * 64) == ("fails", other + "data, method")
    for damaged, words in ((b"{}", "verdict"), (b"\xff\xfe", "Invalid JSON"), (b'{"a": "\xff"}', "")):
        file.write_bytes(damaged)
        audit, (found,) = recorded_audit(tmp_path, mine)
        assert audit is None
        assert (found.subject, found.outcome) == ("audit", "fails")
        assert found.text.startswith("audit.json is damaged: ")
        assert words in found.text
