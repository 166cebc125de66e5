"""Verification: what was tampered with is found and named, what is intact holds, what was not checked never passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import efface
from efface.artifact.artifact import Artifact
from efface.auditing.settings import AuditSettings
from efface.data import Data, load
from efface.errors import InputError
from efface.models.spec import ModelSpec
from efface.references import References, train_references
from efface.report import write
from efface.request import Request
from efface.training.recipe import Recipe
from efface.verbs.verify import verify
from efface.verifying import Verification
from tests.conftest import efface_command

RECIPE = Recipe(lr=0.1, epochs=5, batch_size=64)
MODEL = ModelSpec(build="mlp", arguments={"hidden": [16]})
REQUEST = Request(classes=(0,))
QUICK = AuditSettings(few_draws=4, resamples=100, relearn_cap=10, probe_per_class=40)
"""Kept in audit.json, and so used again by `verify`."""


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory) -> Path:
    """An original, its references, and an audited artifact that forgot by fine-tuning, below one folder."""
    root = tmp_path_factory.mktemp("verify")
    original = efface.train(MODEL, digits, method="mnemonic", recipe=RECIPE, device="cpu")
    original.save(root / "original")
    settings = {"epochs": 0.2, "lr": 0.01}
    forgotten = efface.forget(original, digits, REQUEST, method="fine-tune", settings=settings, device="cpu")
    forgotten.save(root / "forgotten")
    references = train_references(original, digits, REQUEST, 4, root / "references", backend="serial", device="cpu")
    audit = efface.audit(forgotten, digits, retrained=references, settings=QUICK, seed=3, device="cpu")
    write(audit, forgotten.record, root / "forgotten")
    return root


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    """A copy of the audited artifact that a test may spoil."""
    return Path(shutil.copytree(folder / "forgotten", tmp_path / "forgotten"))


def outcomes(found: Verification) -> dict[str, str]:
    return {f.subject: f.outcome for f in found.findings}


def rewrite(file: Path, change) -> None:
    """Load JSON, change it in place, write it back."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def original_of(folder: Path) -> Artifact:
    return Artifact.load(folder / "original")


# --- an artifact by itself ------------------------------------------------------------------------------------------


def test_an_intact_artifact_holds(folder, digits):
    found = verify(folder / "forgotten", data=digits)
    assert found.ok
    assert outcomes(found) == {
        "weights": "holds", "memory": "holds", "record chain": "holds", "data": "holds", "request": "holds",
        "machine": "holds", "copies": "holds", "audit": "holds", "scores": "not checked",
    }  # fmt: skip
    assert "not checked" in found.lines()[-1]
    assert outcomes(verify(folder / "forgotten"))["data"] == "not checked"


def flip_one_weight(path: Path) -> None:
    state = safetensors.torch.load_file(path)
    name = next(iter(state))
    state[name].view(-1)[0] += 1
    safetensors.torch.save_file(state, path)


@pytest.mark.parametrize(
    ("spoil", "subject"),
    [
        (lambda f: flip_one_weight(f / "model.safetensors"), "weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no tensors"), "weights"),
        (lambda f: (f / "model.safetensors").unlink(), "weights"),
        (lambda f: flip_one_weight(f / "memory.safetensors"), "memory"),
        (lambda f: (f / "memory.safetensors").unlink(), "memory"),
        (lambda f: rewrite(f / "record.json", lambda r: r.update(weights_before="0" * 64)), "record chain"),
        (lambda f: rewrite(f / "record.json", lambda r: r["parent"].update(weights_after="0" * 64)), "record chain"),
        (lambda f: rewrite(f / "record.json", lambda r: r["parent"]["data"].update(fingerprint="1")), "record chain"),
        (lambda f: rewrite(f / "record.json", lambda r: r.update(created="2001-01-01T00:00:00Z")), "record chain"),
        (lambda f: (f / "record.json").write_text("{"), "record"),
        (lambda f: rewrite(f / "record.json", lambda r: r["request"].update(classes=[1])), "request"),
        (lambda f: rewrite(f / "record.json", lambda r: r["request"].update(classes=[70])), "request"),
        (lambda f: rewrite(f / "audit.json", lambda a: a.update(request_fingerprint="0")), "audit"),
        (lambda f: (f / "audit.json").write_text("[]"), "audit"),
    ],
)
def test_what_was_changed_is_named_and_the_exit_status_is_1(copied, digits, spoil, subject):
    spoil(copied)
    found = verify(copied, data=digits)
    assert not found.ok
    assert [f.subject for f in found.findings if f.outcome == "fails"] == [subject]
    answer = efface_command("verify", copied, "--json")
    assert answer.status == 1
    assert json.loads(answer.stdout)["findings"] == [f.model_dump() for f in found.findings]


def test_copies_that_lie_around_are_named(copied):
    left, other = (
        copied.parent / name for name in (f".{copied.name}.abcd1234.efface-part", ".other.abcd1234.efface-old")
    )
    left.mkdir()
    answer = efface_command("verify", copied, "--json")
    assert answer.status == 1
    assert left.name in answer.stdout
    left.rmdir()
    other.mkdir()
    answer = efface_command("verify", copied)
    assert answer.status == 0
    assert other.name in answer.stdout
    assert outcomes(verify(copied))["copies"] == "not checked"
    other.rmdir()
    (copied.parent / f".{copied.name}.trials").mkdir()
    assert outcomes(verify(copied))["copies"] == "fails"


def test_copies_around_a_reference_and_half_made_ones_beside_it_are_named(folder, tmp_path):
    """What a stopped `train --references --overwrite` leaves lies beside the folder around it."""
    inside = Path(shutil.copytree(folder / "references", tmp_path / "references"))
    one = inside / "reference-001"
    left = {
        one.parent / f".{one.name}.abcd1234.efface-part": ("fails", f": .{one.name}.abcd1234"),
        tmp_path / ".references.abcd1234.efface-part": ("fails", ": ../.references.abcd1234"),
        tmp_path / ".references.abcd1234.efface-old": ("fails", ": ../.references.abcd1234"),
        inside / ".reference-002.abcd1234.efface-part": ("not checked", ".reference-002.abcd1234"),
        one / ".record.json.abcd1234.efface-part": ("not checked", "or in it: .record.json.abcd1234"),
        tmp_path / ".elsewhere.abcd1234.efface-part": ("holds", "no draft"),
    }
    for draft, (outcome, said) in left.items():
        draft.mkdir()
        (found,) = (f for f in verify(one).findings if f.subject == "copies")
        assert (found.outcome, said in found.text) == (outcome, True), found
        draft.rmdir()
    assert outcomes(verify(one))["copies"] == "holds"


def test_copies_beside_the_references_given_are_named(folder, digits, tmp_path):
    from efface.references import load_references

    there = Path(shutil.copytree(folder / "references", tmp_path / "references"))
    (tmp_path / ".references.abcd1234.efface-old").mkdir()
    found = verify(folder / "forgotten", retrained=load_references(there))
    assert outcomes(found)["references"] == "fails"
    assert outcomes(found)["copies"] == "holds"


def test_a_place_that_cannot_be_looked_into_is_no_pass(copied, monkeypatch):
    from efface.verifying import record

    looked = record.left_over

    def closed(place: Path, *name: str) -> list[Path]:
        if place == copied.parent.parent:
            raise PermissionError(13, "Permission denied", str(place))
        return looked(place, *name)

    monkeypatch.setattr(record, "left_over", closed)
    found = [f for f in verify(copied).findings if f.subject == "copies"]
    assert [f.outcome for f in found] == ["not checked", "holds"]
    assert "Permission denied" in found[0].text


def test_memory_from_before_hashes_were_kept_is_not_a_pass(copied):
    rewrite(copied / "record.json", lambda r: r.update(memory_after=None))
    assert outcomes(verify(copied))["memory"] == "not checked"


def test_other_data_is_named(folder):
    found = verify(folder / "forgotten", data=load("digits", test_fraction=0.5))
    assert outcomes(found)["data"] == "fails"


def test_what_is_no_artifact_is_bad_input(tmp_path):
    answer = efface_command("verify", tmp_path)
    assert answer.status == 2
    assert "record.json" in answer.stderr


# --- scores again ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def references(folder) -> References:
    from efface.references import load_references

    return load_references(folder / "references")


def test_scores_come_out_as_recorded(folder, digits, references):
    found = verify(folder / "forgotten", original_of(folder), digits, retrained=references, device="cpu")
    assert found.ok, found.lines()
    seen = outcomes(found)
    for subject in ("original", "scores of 'fine-tune'", "scores of 'original'", "scores of 'retrained'", "verdict"):
        assert seen[subject] == "holds"
    assert found.audit is not None
    assert found.audit.seed == RECIPE.seed + 1 + 3


def test_a_score_that_was_touched_up_is_named(copied, folder, digits, references):
    def improve(audit):
        scores = next(r for r in audit["rows"] if r["name"] == "fine-tune")["scores"]
        scores["forget_accuracy"]["value"] = 0.0
        scores["seconds"]["value"] = 1e-6  # time is no score that could be computed again
        audit["verdict"]["outcome"] = "alike"

    rewrite(copied / "audit.json", improve)
    found = verify(copied, original_of(folder), digits, retrained=references, device="cpu")
    failed = {f.subject: f.text for f in found.findings if f.outcome == "fails"}
    assert set(failed) == {"scores of 'fine-tune'", "verdict"}
    assert "forget_accuracy" in failed["scores of 'fine-tune'"]
    assert "seconds" not in failed["scores of 'fine-tune'"]
    assert "'differs', recorded 'alike'" in failed["verdict"]


def test_without_the_references_only_what_needs_none_is_compared(folder, digits):
    found = verify(folder / "forgotten", original_of(folder), digits, device="cpu")
    assert found.ok, found.lines()
    seen = outcomes(found)
    assert seen["scores of 'fine-tune'"] == "holds"
    assert seen["verdict"] == "not checked"
    assert "0 retrained models given, 4 recorded" in next(f.text for f in found.findings if f.subject == "scores")


def test_another_original_is_named(folder, digits):
    other = efface.train(MODEL, digits, recipe=RECIPE.but(epochs=1), device="cpu")
    found = verify(folder / "forgotten", other, digits, device="cpu")
    assert outcomes(found)["original"] == "fails"
    assert found.audit is None


def test_another_request_than_the_artifacts_is_refused(folder, digits):
    with pytest.raises(InputError, match="class 0, not class 3"):
        verify(folder / "forgotten", original_of(folder), digits, Request(classes=(3,)), device="cpu")


# --- checkpoints that Efface did not make ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(folder) -> dict[str, Path]:
    """Bare files of weights, in both formats."""
    torch.save({"state_dict": original_of(folder).model.state_dict()}, folder / "a.pt")
    reference = Artifact.load(folder / "references" / "reference-003")
    safetensors.torch.save_file(reference.model.state_dict(), folder / "b.safetensors")
    return {"original": folder / "a.pt", "retrained": folder / "b.safetensors"}


BUILT = ("--model", "mlp", "--model-set", "hidden=[16]", "--data", "digits", "--classes", "0", "-q")


def test_two_foreign_checkpoints_are_audited(weights, tmp_path):
    out = tmp_path / "out"
    arguments = ("verify", "--original", weights["original"], *BUILT)
    answer = efface_command(*arguments, "--candidate", weights["original"], "--out", out)
    assert answer.status == 3, answer.stderr  # nothing was forgotten
    assert answer.stdout.splitlines()[-1] == "Did it forget? no"
    assert "Level (a)" in answer.stdout
    assert {p.name for p in out.iterdir()} == {"verification.json", "audit.json", "report.html", "report.md"}
    found = Verification.model_validate_json((out / "verification.json").read_bytes())
    assert outcomes(found) == {"verdict": "fails"}
    assert found.audit.row("candidate")["forget_accuracy"].value > 0.9
    assert found.audit.counts["validation_retain"] == 0  # a foreign model may have seen everything


def test_a_retrained_checkpoint_does_not_fail_beside_references(weights, folder):
    arguments = ("--original", weights["original"], "--candidate", weights["retrained"], *BUILT, "--json")
    answer = efface_command("verify", *arguments, "--references", folder / "references")
    found = Verification.model_validate_json(answer.stdout)
    assert answer.status == 0, found.lines()
    assert found.audit.level == "c"
    assert found.audit.row("candidate")["forget_accuracy"].value < 0.1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--candidate"),
        (("FOLDER", "--candidate", "x.pt"), "--candidate"),
        (("--candidate", "x.pt", "--original", "FOLDER", "--classes", "0", "--data", "digits"), "--model"),
        (("--candidate", "x.pt", "--original", "y.pt", "--model", "mlp", "--classes", "0"), "--data"),
        (("--candidate", "x.pt", "--original", "FOLDER", "--model", "mlp", "--classes", "0"), "x.pt"),
        (("--candidate", "FOLDER", "--data", "digits"), "original"),
        (("FOLDER", "--original", "FOLDER", "--references", "FOLDER"), "references.json"),
        (("FOLDER", "--references", "FOLDER", "--retrained", "FOLDER"), "--retrained"),
    ],
)
def test_what_is_missing_is_said(folder, arguments, named):
    given = [str(folder / "original") if a == "FOLDER" else a for a in arguments]
    answer = efface_command("verify", *given)
    assert answer.status == 2
    assert named in answer.stderr


def test_a_module_in_memory_needs_a_request(digits):
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="request"):
        verify(own, own, digits)
    with pytest.raises(InputError, match="the original and the data"):
        verify(own)
