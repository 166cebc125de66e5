"""Conditions as text: what they mean, and that nothing else is read as one."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.errors import InputError
from efface.predicate import Predicate
from efface.request import Request
from tests.test_request import DATA

COLUMNS = {
    "subject": np.array(["p17", "p3", "p17", "p8"]),
    "year": np.array([2018, 2018, 2021, 2019]),
    "dose": np.array([-1.5, 0.0, 2.5, np.nan]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('subject == "p17" and year < 2020', [1, 0, 0, 0]),
        ("subject == 'p17' or year == 2019", [1, 0, 1, 1]),
        ("not subject == 'p17'", [0, 1, 0, 1]),
        ("subject in ['p3', 'p8']", [0, 1, 0, 1]),
        ("year not in (2018,)", [0, 0, 1, 1]),
        ("2018 < year <= 2021", [0, 0, 1, 1]),
        ("2019 >= year", [1, 1, 0, 1]),
        ("dose >= -1.5 and (year != 2018 or subject == 'p17')", [1, 0, 1, 0]),
    ],
)
def test_conditions_mean_what_they_say(text: str, expected: list[int]) -> None:
    assert Predicate(text).holds(COLUMNS).tolist() == [bool(e) for e in expected]


PARTS = st.tuples(
    st.sampled_from(["year", "dose"]),
    st.sampled_from(["<", "<=", "==", "!="]),
    st.integers(2015, 2022),
    st.sampled_from(["and", "or"]),
)


@given(st.lists(PARTS, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_conditions_agree_with_python_row_by_row(parts: list[tuple[str, str, int, str]]) -> None:
    text = " ".join(f"{'' if i == 0 else join} {c} {op} {v}" for i, (c, op, v, join) in enumerate(parts))
    rows = [{name: COLUMNS[name][i].item() for name in ("year", "dose")} for i in range(4)]
    expected = [bool(eval(text, {}, row)) for row in rows]  # noqa: S307 - the slow, obvious version
    assert Predicate(text).holds(COLUMNS).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "year.__class__ == 1",
        "year == len('abc')",
        "(lambda: 1)() == year",
        "year == 2018 if True else False",
        "year",
        "True",
        "year == subject",
        "1 == 1",
        "year is 2018",
        "year == None",
        "year == [1, 2]",
        "year in 2018",
        "year in [[1]]",
        "year == -'a'",
        "year ==",
        "year = 2018",
        "year == 2018; import os",
        "(" * 3000 + "year" + ")" * 3000,
        "not " * 2400 + "year == 1",
        "year == 1 " * 2000,
        "\0",
    ],
)
def test_nothing_else_is_read_and_nothing_runs(text: str) -> None:
    with pytest.raises(InputError, match="allowed:"):
        Predicate(text)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_condition_or_an_input_error(text: str) -> None:
    found = None
    with contextlib.suppress(InputError):
        found = Predicate(text).holds(COLUMNS)
    assert found is None or (found.shape, found.dtype) == ((4,), bool)


def test_columns_and_kinds_are_checked() -> None:
    with pytest.raises(InputError, match=r"unknown metadata column 'yaer'\. Did you mean 'year'"):
        Predicate("yaer == 1").holds(COLUMNS)
    with pytest.raises(InputError, match="'year' holds numbers, but is compared with '2018'"):
        Predicate("year == '2018'").holds(COLUMNS)
    with pytest.raises(InputError, match="'subject' holds text, but is compared with 17"):
        Predicate("subject in ['p3', 17]").holds(COLUMNS)
    with pytest.raises(InputError, match="no metadata"):
        Predicate("year == 1").holds({})


def test_requests_by_condition_and_by_id() -> None:
    request = Request.of(where="year >= 1 and site == 'x'")
    assert request.resolve(DATA).indices.tolist() == [4, 6, 8]
    assert request.target == "items"
    assert request.describe() == "items where year >= 1 and site == 'x'"
    assert Request.model_validate_json(request.model_dump_json()) == request
    by_id = Request.of(ids=["photo/8.jpg", "photo/4.jpg", "photo/6.jpg"])
    assert by_id.resolve(DATA).indices.tolist() == [4, 6, 8]
    assert by_id.resolve(DATA).fingerprint == request.resolve(DATA).fingerprint
    assert by_id.describe() == "ids photo/8.jpg, photo/4.jpg, photo/6.jpg"
    with pytest.raises(InputError, match=r"no such id: photo/44.jpg; the data has 10 ids such as photo/4.jpg"):
        Request.of(ids=["photo/44.jpg", "photo/4.jpg"]).resolve(DATA)
    with pytest.raises(InputError, match="cannot be read"):
        Request.of(where="year ==")
    with pytest.raises(InputError, match=r"no training sample is meant; site holds x, y; year holds 0 to 2$"):
        Request.of(where="year > 100 and site == 'x'").resolve(DATA)
