"""Rows of a comparison: what was found, or why there is nothing; and the store that they are read from."""

from __future__ import annotations

import pytest

from efface.artifact.artifact import RECORD
from efface.comparing.plan import Cell, Preparation
from efface.comparing.rows import raise_if_nothing, row_of, unmeasured
from efface.comparing.store import Store
from efface.errors import InputError
from efface.request import Request
from efface.running.engines import Failure

CELL = Cell(
    entry="mine",
    method="ssd",
    settings={"alpha": 2},
    train=Preparation(),
    request=Request(classes=(3,)),
    asked="class 3 (request 2)",
    seed=4,
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_what_is_known_before_a_cell_is_computed_has_every_field_of_a_row():
    row = unmeasured(CELL)
    machine = row.pop("machine")
    assert row == {
        "entry": "mine",
        "method": "ssd",
        "settings": {"alpha": 2},
        "request": "class 3 (request 2)",
        "seed": 4,
        "seconds": None,
        "train_seconds": None,
        "samples": None,
        "peak_memory": None,
        "notes": [],
        "refused": "",
        "scores": {},
    }
    assert machine.endswith(" cores")
    assert int(machine.split(", ")[1].removesuffix(" cores")) >= 1


def test_a_row_is_the_stored_result_under_the_cells_own_name(store):
    assert row_of(CELL, "k", store, {}) == unmeasured(CELL) | {"refused": "not computed yet"}
    # Another plan may have called the same cell something else.
    store.keep("k", unmeasured(CELL) | {"entry": "theirs", "request": "class 3", "seconds": 2.5})
    assert row_of(CELL, "k", store, {"other": Failure(None, "no room")}) == unmeasured(CELL) | {"seconds": 2.5}
    assert row_of(CELL, "k", store, {"k": Failure(None, "no room")}) == unmeasured(CELL) | {"refused": "no room"}


def test_the_first_originals_error_is_raised_where_nothing_was_computed():
    failures = {
        "cell": Failure(ValueError("a cell's"), "a cell's"),
        "original 1": Failure(None, "in words only"),
        "original 2": Failure(MemoryError("no room"), "no room"),
        "original 3": Failure(MemoryError("later"), "later"),
    }
    with pytest.raises(MemoryError, match="no room"):
        raise_if_nothing(failures, [{"scores": {}}, {"scores": {}}])
    raise_if_nothing(failures, [{"scores": {}}, {"scores": {"A_R": {"value": 1.0}}}])
    raise_if_nothing({"cell": failures["cell"]}, [{"scores": {}}])


def test_a_store_keeps_results_over_failures_and_says_what_is_damaged(store, tmp_path):
    assert (store.result("k"), store.finished("k")) == (None, False)
    store.keep_failure("k", {"refused": "why"})
    assert (store.result("k"), store.finished("k")) == ({"refused": "why"}, False)
    store.keep("k", {"seconds": 1.0}, audit="{}")
    assert (store.result("k"), store.finished("k")) == ({"seconds": 1.0}, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k.audit.json", "k.json"]
    assert (tmp_path / "k.audit.json").read_text() == "{}"
    assert (tmp_path / "k.json").read_text() == '{\n "seconds": 1.0\n}'
    store.keep_failure("k", {"refused": "the second time"})  # computed again, which failed
    assert (store.result("k"), store.finished("k")) == ({"refused": "the second time"}, False)
    store.keep("k", {"seconds": 1.0}, audit="{}")
    store.keep("l", {})  # without an audit, and without a failure before
    assert store.result("l") == {}
    for name in ("k.json", "m.failed.json"):
        (tmp_path / name).write_text("{")
        with pytest.raises(InputError, match=rf"{name} is damaged .*delete it, and the cell is computed again"):
            store.result(name[0])


def test_models_lie_by_digest_and_number_and_are_saved_once(store, tmp_path):
    assert store.original("abc") == tmp_path / "original-abc"
    assert store.reference("abc", 7) == tmp_path / "references-abc" / "reference-007"
    saved = []

    class Saved:
        def save(self, folder):
            saved.append(folder)
            folder.mkdir()
            (folder / RECORD).touch()

    for _ in range(2):
        assert store.save(Saved(), tmp_path / "one") == tmp_path / "one"
    assert saved == [tmp_path / "one"]
