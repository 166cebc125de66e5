"""A folder of references, by hand: what is finished, what is loaded and as what, and what does not belong there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from efface.artifact.artifact import RECORD
from efface.errors import InputError
from efface.references import references as module
from efface.references.manifest import Series
from efface.references.references import References, foreign_to_references, load_references

SEEDS = (11, 12, 13)


def folder(path, finished=("reference-000", "reference-002"), like=None, model=None, **options):
    """A folder of three references and of a method's repeats, of which these are finished."""
    for name in finished:
        (path / name).mkdir()
        (path / name / RECORD).touch()
    series = {
        "reference": Series(seeds=SEEDS),
        "unlearned-ssd": Series(method="ssd", settings={"alpha": 2.0}, seeds=(7, 8)),
    }
    manifest = SimpleNamespace(series=series, model=model, request_fingerprint="the request")
    return References(path, manifest, like, **options)


def test_what_is_finished_has_a_record_and_is_asked_for(tmp_path):
    found = folder(tmp_path)
    (tmp_path / "reference-001").mkdir()
    (tmp_path / "reference-007").mkdir()
    (tmp_path / "reference-007" / RECORD).touch()  # not of this manifest
    assert [p.name for p in found.finished("reference")] == ["reference-000", "reference-002"]
    assert len(found) == 2
    assert found.finished("shadow-ssd") == found.finished("unlearned-ssd") == []


def test_answers_are_kept_beside_the_models_or_not(tmp_path):
    assert folder(tmp_path, ()).answers == tmp_path / "answers"
    assert folder(tmp_path, (), keep_answers=False).answers is None


def test_a_model_is_loaded_as_its_architecture_says(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(module.Artifact, "load", lambda *given, **named: calls.append((given, named)) or "loaded")
    assert folder(tmp_path, (), model="a spec", trust=True).opened(tmp_path / "x") == "loaded"
    assert calls == [((tmp_path / "x",), {"trust": True, "rebuild": module.rebuilt})]
    calls.clear()
    like = nn.Linear(1, 1)
    folder(tmp_path, (), like=like).opened(tmp_path / "x")
    ((path, twin), named) = calls.pop()
    assert (path, named) == (tmp_path / "x", {})
    assert isinstance(twin, nn.Linear)
    assert twin is not like
    with pytest.raises(InputError) as error:
        folder(tmp_path, ()).opened(tmp_path / "x")
    assert str(error.value) == (
        f"{tmp_path} holds models that were handed over in Python; give a module of the same architecture"
    )
    assert calls == []


def record(**changes):
    return SimpleNamespace(**{"method": "retrain", "settings": {}, "seed": 13, **changes})


@pytest.fixture
def holding(tmp_path, monkeypatch):
    """Let a folder's models have such records; differences of data, model, recipe and request are named by hand."""

    def made(record, different=(), finished=("reference-002",)):
        asked = []

        def differences(*given):
            asked.append(given)
            return dict.fromkeys(different, (1, 2))

        monkeypatch.setattr(module, "differences", differences)
        monkeypatch.setattr(References, "opened", lambda self, path: SimpleNamespace(record=record, path=path))
        monkeypatch.setattr(module, "in_words", lambda found: " and ".join(found))
        return folder(tmp_path, finished), asked

    return made


def test_models_are_loaded_in_order_once_they_are_what_they_should_be(holding, tmp_path):
    found, asked = holding(own := record())
    (loaded,) = found
    assert loaded.path == tmp_path / "reference-002"
    assert asked == [(own, found.manifest, "the request")]


@pytest.mark.parametrize(
    ("changes", "different", "said"),
    [
        ({"seed": 12}, (), "seed"),
        ({"method": "ssd"}, (), "method"),
        ({"settings": {"lr": 1}}, (), "settings"),
        ({}, ("data", "recipe"), "data and recipe"),
        ({"seed": 1, "method": "ssd", "settings": {"lr": 1}}, ("data",), "data, seed, method"),
    ],
)
def test_a_reference_that_is_not_what_the_folder_is_for_is_named(holding, tmp_path, changes, different, said):
    found, _ = holding(record(**changes), different)
    with pytest.raises(InputError) as error:
        list(found)
    assert str(error.value) == (
        f"reference-002 in {tmp_path} is not what references.json says; different: {said}. Delete that folder and "
        "train again"
    )


def test_repeats_are_those_of_the_same_settings_and_their_seed_is_their_own(holding, tmp_path):
    own = record(method="ssd", settings={"alpha": 2.0}, seed=None)
    found, asked = holding(own, ("data",), ("unlearned-ssd-000", "unlearned-ssd-001"))
    assert [a.path.name for a in found.unlearned("ssd", {"alpha": 2.0})] == ["unlearned-ssd-000", "unlearned-ssd-001"]
    assert asked == []  # what they were trained with is another request's
    assert found.unlearned("ssd", {"alpha": 3.0}) == []
    assert found.unlearned("assd", {"alpha": 2.0}) == []
    own.method = "retrain"
    with pytest.raises(InputError, match=r"unlearned-ssd-000 in .*; different: method"):
        found.unlearned("ssd", {"alpha": 2.0})


def test_it_serves_the_request_that_it_was_made_for(tmp_path):
    found = folder(tmp_path, ())
    for fingerprint, served in (("the request", True), ("another", False)):
        assert found.serves(SimpleNamespace(resolved=SimpleNamespace(fingerprint=fingerprint))) is served
    assert found.serves(SimpleNamespace(resolved=None)) is False


def test_an_audit_is_refused_by_the_manifest_and_where_none_is_finished(tmp_path):
    found, calls = folder(tmp_path, ()), []
    found.manifest.check = lambda *given: calls.append(given)
    with pytest.raises(InputError) as error:
        found.check("record", "split")
    assert str(error.value) == f"no reference in {tmp_path} is finished yet; let `train --references` end"
    assert calls == [("record", "split", str(tmp_path))]
    (tmp_path / "reference-001").mkdir()
    (tmp_path / "reference-001" / RECORD).touch()
    found.check("record", "split")


def test_a_folder_without_a_whole_manifest_is_none(tmp_path):
    with pytest.raises(InputError) as error:
        load_references(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is no folder of references: it has no references.json. Make one with `efface train --from "
        "ORIGINAL --references N --classes ... --out FOLDER`"
    )
    (tmp_path / "references.json").write_text("{}")
    with pytest.raises(InputError, match=r"references\.json is damaged: data is missing"):
        load_references(tmp_path)


def test_a_folder_is_opened_with_what_loading_its_models_takes(tmp_path, monkeypatch):
    (tmp_path / "references.json").write_text("the text")
    monkeypatch.setattr(module.Manifest, "model_validate_json", lambda text: ("read from", text))
    like = nn.Linear(1, 1)
    assert load_references(tmp_path, like, trust=True) == References(tmp_path, ("read from", b"the text"), like, True)
    assert load_references(str(tmp_path)) == References(tmp_path, ("read from", b"the text"))
    assert not load_references(tmp_path).trust


def test_what_efface_did_not_write_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "foreign_to_artifact", lambda path: ["notes.txt"] if path.name.endswith("1") else [])
    own = ["reference-000", "reference-001", "unlearned-ssd-000", "shadow-bad-teacher-1001", "answers", "as-long"]
    strange = ["reference-00", "unlearned--", "shadow-000", "other", "answers.txt"]
    for name in own + strange:
        (tmp_path / name).mkdir()
    (tmp_path / "references.json").touch()
    (tmp_path / "reference-009").touch()  # a file of such a name
    assert sorted(foreign_to_references(tmp_path)) == sorted(
        [*strange, "reference-001/notes.txt", "shadow-bad-teacher-1001/notes.txt", "reference-009"]
    )
