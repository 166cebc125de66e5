"""Requests: exactly one kind, JSON both ways, and what they mean on a data set."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.errors import InputError
from efface.request import Request


class Described:
    """Ten samples of three classes, two people, and a year each."""

    classes = ("cat", "dog", "7")
    train_labels = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0])
    ids: np.ndarray | None = np.array([f"photo/{i}.jpg" for i in range(10)])
    groups: np.ndarray | None = np.array(["ann", "bob"] * 5)
    test_groups: np.ndarray | None = None
    metadata: dict[str, np.ndarray] = {"year": np.arange(10) // 4, "site": np.array(list("xyxyxyxyxy"))}  # noqa: RUF012
    fingerprint = "data"
    canaries: SimpleNamespace | None = None


DATA = Described()

numbers = st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True)
words = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True)
values = st.one_of(st.text(max_size=5), st.integers(-(10**9), 10**9), st.booleans(), st.floats(-1e6, 1e6))
kinds: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"classes": st.one_of(numbers, words)}),
    st.fixed_dictionaries({"items": numbers}),
    st.fixed_dictionaries({"groups": st.one_of(numbers, words)}),
    st.fixed_dictionaries({"where": st.dictionaries(st.text(min_size=1, max_size=5), values, min_size=1, max_size=3)}),
)


@given(kinds, st.text(max_size=20), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_json_both_ways(kind: dict[str, Any], reason: str, when: datetime | None) -> None:
    request = Request.of(**kind, reason=reason, requested_at=when)
    assert Request.model_validate_json(request.model_dump_json()) == request
    assert request.kind == next(iter(kind))
    assert request.target == ("classes" if "classes" in kind else "items")
    assert request.describe()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"groups": "C0042"}, ("C0042",)),
        ({"classes": 3}, (3,)),
        ({"ids": pd.Series(["a.jpg", "b.jpg"])}, ("a.jpg", "b.jpg")),
        ({"items": np.array([4, 2])}, (4, 2)),
        ({"items": np.int64(7)}, (7,)),
    ],
)
def test_a_single_value_and_an_array_are_taken_as_they_are(given: dict[str, Any], meant: tuple[object, ...]) -> None:
    request = Request(**given)
    assert getattr(request, request.kind) == meant


@pytest.mark.parametrize("mask", [True, [False, True], np.array([False, True])])
def test_a_mask_is_not_taken_for_positions(mask: object) -> None:
    with pytest.raises(InputError, match="truth values"):
        Request(items=mask)  # type: ignore[arg-type]


@given(st.sets(st.integers(0, 9), min_size=1, max_size=9))
def test_items_resolve_to_themselves_sorted_in_any_order(items: set[int]) -> None:
    forwards = Request.of(items=sorted(items)).resolve(DATA)
    backwards = Request.of(items=sorted(items, reverse=True)).resolve(DATA)
    assert forwards.indices.tolist() == sorted(items)
    assert forwards.indices.dtype == np.int64
    assert forwards.classes == ()
    assert forwards.fingerprint == backwards.fingerprint


@given(st.sets(st.integers(0, 9), min_size=1, max_size=9), st.sets(st.integers(0, 9), min_size=1, max_size=9))
def test_fingerprints_agree_exactly_if_the_requests_do(a: set[int], b: set[int]) -> None:
    prints = [Request.of(items=sorted(s)).resolve(DATA).fingerprint for s in (a, b)]
    assert (prints[0] == prints[1]) == (a == b)


def test_fingerprint_depends_on_the_data_and_on_what_is_meant() -> None:
    class Other(Described):
        fingerprint = "other data"

    request = Request.of(classes=[0])
    assert request.resolve(DATA).fingerprint != request.resolve(Other()).fingerprint
    same_items = Request.of(items=[0, 1, 6, 9])
    assert same_items.resolve(DATA).indices.tolist() == request.resolve(DATA).indices.tolist()
    assert same_items.resolve(DATA).fingerprint != request.resolve(DATA).fingerprint
    assert Request.of(classes=["cat"], reason="why").resolve(DATA).fingerprint == request.resolve(DATA).fingerprint


@pytest.mark.parametrize(
    ("kind", "expected", "classes"),
    [
        ({"classes": [1]}, [2, 3, 7], (1,)),
        ({"classes": ["dog", "cat"]}, [0, 1, 2, 3, 6, 7, 9], (0, 1)),
        ({"classes": ["1"]}, [2, 3, 7], (1,)),
        ({"classes": ["7"]}, [4, 5, 8], (2,)),  # a class of that name goes before the number
        ({"groups": ["bob"]}, [1, 3, 5, 7, 9], ()),
        ({"where": {"year": 2}}, [8, 9], ()),
        ({"where": {"year": 1, "site": "y"}}, [5, 7], ()),
    ],
)
def test_resolves(kind: dict[str, Any], expected: list[int], classes: tuple[int, ...]) -> None:
    resolved = Request.of(**kind).resolve(DATA)
    assert resolved.indices.tolist() == expected
    assert resolved.classes == classes


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({}, "nothing"),
        ({"classes": [0], "items": [1]}, "classes and items"),
        ({"classes": [0, 0]}, "more than once: 0"),
        ({"groups": ["ann", "ann"]}, "more than once: ann"),
        ({"clases": [0]}, "clases"),
        ({"items": ["a"]}, "items"),
    ],
)
def test_refused_at_once(kind: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Request.of(**kind)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"classes": [3]}, "0 to 2"),
        ({"classes": [-1]}, "unknown class -1"),
        ({"classes": ["dgo"]}, "Did you mean 'dog'"),
        ({"classes": [0, "cat"]}, "by number and once by name"),
        ({"classes": [0, 1, 2]}, "every class"),
        ({"items": [10]}, r"out of range: \[10\]; allowed: 0 to 9"),
        ({"items": [-1]}, "out of range"),
        ({"items": list(range(10))}, "delete the model instead"),
        ({"groups": ["carl"]}, "no such group: carl"),
        ({"where": {"yaer": 1}}, "Did you mean 'year'"),
        ({"where": {"year": 99}}, "no training sample is meant; year holds 0 to 2$"),
        ({"where": {"site": 3, "year": 0}}, "no training sample is meant; site holds x, y; year holds 0 to 2$"),
    ],
)
def test_refused_against_the_data(kind: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Request.of(**kind).resolve(DATA)


def test_refused_without_groups_metadata_or_samples_of_the_class() -> None:
    class Bare(Described):
        groups = None
        metadata: dict[str, np.ndarray] = {}  # noqa: RUF012
        classes = ("a", "b", "c", "unseen")

    for request, said in (
        (Request.of(groups=["ann"]), "no group ids"),
        (Request.of(where={"year": 1}), "no metadata"),
        (Request.of(classes=["unseen"]), "no sample of class 3"),
    ):
        with pytest.raises(InputError, match=said):
            request.resolve(Bare())


def test_numeric_groups_are_met_by_number_and_by_text() -> None:
    class Numbered(Described):
        groups = np.arange(10) // 3

    for group in (1, "1"):
        assert Request.of(groups=[group]).resolve(Numbered()).indices.tolist() == [3, 4, 5]


def test_read_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    with pytest.raises(InputError, match="no request file"):
        Request.read(file)
    file.write_text('{"classes": [0]')
    with pytest.raises(InputError, match=r"request\.json"):
        Request.read(file)
    request = Request.of(classes=[0], reason="a person asked")
    file.write_text(request.model_dump_json())
    assert Request.read(file) == request


def test_describe_is_short() -> None:
    assert Request.of(classes=[4]).describe() == "class 4"
    assert Request.of(classes=["cat", "dog"]).describe() == "classes cat, dog"
    assert Request.of(items=list(range(50))).describe() == "50 items"
    assert Request.of(where={"b": 1, "a": "x"}).describe() == "items where a = x and b = 1"


class WithCanaries(Described):
    """The last three samples are canaries: copies of the samples 0, 1 and 4."""

    canaries = SimpleNamespace(positions=np.array([7, 8, 9]), sources=np.array([0, 1, 4]))


def test_canaries_are_named_all_together_and_copies_go_with_their_record() -> None:
    data = WithCanaries()
    assert Request.of(items=[2], canaries=True).resolve(data).indices.tolist() == [2, 7, 8, 9]
    assert Request.of(items=[2]).resolve(data).indices.tolist() == [2]
    assert Request.of(items=[1]).resolve(data).indices.tolist() == [1, 8]
    assert Request.of(classes=["7"]).resolve(data).indices.tolist() == [4, 5, 8, 9]  # 8 by its label, 9 as a copy
    assert Request.of(items=[2], canaries=True).describe() == "item 2 and the canaries"


def test_canaries_that_are_not_there_or_do_not_go_with_a_request_are_refused() -> None:
    with pytest.raises(InputError, match="trained without any"):
        Request.of(items=[2], canaries=True).resolve(DATA)
    with pytest.raises(InputError, match="a class has questions of its own"):
        Request.of(classes=[0], canaries=True)
    with pytest.raises(InputError, match="exactly one"):
        Request.of(canaries=True)
