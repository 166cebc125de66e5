"""Where a comparison keeps what is finished, by digest."""

import json
from types import SimpleNamespace

import pytest

from efface.artifact.artifact import RECORD
from efface.comparing import store as module
from efface.comparing.store import Store
from efface.errors import InputError


def test_a_result_replaces_a_failure_and_a_failure_a_result(tmp_path):
    store = Store(tmp_path)
    assert (store.result("a"), store.finished("a")) == (None, False)
    store.keep_failure("a", {"refused": "why"})
    assert (store.result("a"), store.finished("a")) == ({"refused": "why"}, False)
    store.keep("a", {"scores": [1]}, "the audit")
    assert (store.result("a"), store.finished("a")) == ({"scores": [1]}, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.audit.json", "a.json"]
    assert (tmp_path / "a.audit.json").read_text() == "the audit"
    assert (tmp_path / "a.json").read_text() == json.dumps({"scores": [1]}, indent=1)  # a line each, to be read
    store.keep_failure("a", {"refused": "again"})
    assert (store.result("a"), store.finished("a")) == ({"refused": "again"}, False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.audit.json", "a.failed.json"]
    assert (tmp_path / "a.failed.json").read_text() == json.dumps({"refused": "again"}, indent=1)
    store.keep("b", {})
    assert not (tmp_path / "b.audit.json").exists()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is damaged \(.*\); delete it, and the cell is computed again"):
        Store(tmp_path).result("a")


def test_models_have_their_places_and_are_saved_once(tmp_path, monkeypatch):
    store, saved = Store(tmp_path), []
    assert store.original("k") == tmp_path / "original-k"
    assert store.reference("k", 7) == tmp_path / "references-k" / "reference-007"
    artifact = SimpleNamespace(save=saved.append)
    assert store.save(artifact, store.original("k")) == store.original("k")
    assert saved == [store.original("k")]
    store.original("k").mkdir()
    (store.original("k") / RECORD).touch()
    assert store.save(artifact, store.original("k")) == store.original("k")
    assert len(saved) == 1
    monkeypatch.setattr(module.Artifact, "load", lambda *given, **named: (given, named))
    assert store.load(tmp_path) == ((tmp_path,), {"trust": True, "rebuild": module.rebuilt})
