"""The comparison of two revisions: what it tells, and what it must not miss."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.revisions import HERE, differences, lines
from tests.revisions_driver import without_times


def told(old, new, *, allow_new=False):
    return lines(differences(old, new), allow_new=allow_new)


def row(name, value):
    return {"name": name, "scores": {"auc": {"value": value, "why": ""}}}


FACTS = {
    "weights": {"mlp": {"class": {"decay": "ab12", "ssd": "cd34"}}},
    "audits": {"a": {"rows": [row("original", 0.5), row("decay", 0.25)], "curve": [1, 2, 3], "report.md": ["x", "y"]}},
}


def test_equal_facts_tell_nothing():
    assert told(FACTS, FACTS) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"decay": "ab12"}, {"decay": "ab13"}, "decay: ab12 -> ab13"),
        ({"a": {"b": 0.1}}, {"a": {"b": 0.1 + 2**-56}}, f"a/b: 0.1 -> {0.1 + 2**-56}"),
        ({"a": None}, {"a": 0}, "a: null -> 0"),
        ({"a": 1}, {"a": 1.0}, "a: 1 -> 1.0"),
        ({"a": 1}, {"a": True}, "a: 1 -> true"),
        ({"a": [1, 2, 3]}, {"a": [1, 5, 6]}, "a, 2 of 3 values, first at 1: 2 -> 5"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, "a: [1, 2] -> [1, 2, 3]"),
        ({"a": [[1], [2]]}, {"a": [[1], [3]]}, "a/1, 1 of 1 values, first at 0: 2 -> 3"),
        ({"a": []}, {"a": [1]}, "a: [] -> [1]"),
        ({"a": ["x", "y"]}, {"a": ["x", "z"]}, "a, line 2: y -> z"),
        ([row("a", 1), row("b", 2)], [row("a", 1), row("b", 3)], "b/scores/auc/value: 2 -> 3"),
        ([row("a", 1), row("b", 2)], [row("b", 2), row("a", 1)], 'order of : ["a", "b"] -> ["b", "a"]'),
    ],
)
def test_one_difference_is_one_line(old, new, line):
    assert told(old, new) == [line]


def test_a_row_that_one_revision_lacks_does_not_shift_the_others():
    old, new = [row("a", 1), row("c", 3)], [row("a", 1), row("b", 2), row("c", 3)]
    assert told(old, new) == ["b: only in NEW, at b"]
    assert told(new, old) == ["b: only in OLD, at b"]


def test_a_line_that_one_revision_lacks_does_not_shift_the_others():
    assert told({"md": ["x", "z"]}, {"md": ["x", "y", "z"]}) == ["md, line 2, y: only in NEW, at md, line 2, y"]


def test_two_long_texts_are_cut_where_they_part():
    (line,) = told({"note": "a" * 500 + "old"}, {"note": "a" * 500 + "new" + "b" * 500})
    assert line.startswith("note: …aaa")
    assert "aaaold -> …aaa" in line
    assert "aaanewbbb" in line
    assert len(line) < 300


def test_a_new_key_is_told_once_however_often_it_stands_there():
    old = {kind: {"scores": {"auc": 1}} for kind in "abc"}
    new = {kind: {"scores": {"auc": 1, "tail": 2}} for kind in "abc"}
    assert told(old, new) == ["tail: only in NEW, at a/scores/tail and 2 more places"]


def test_what_is_new_may_be_allowed_and_what_is_lost_never():
    old, new = {"kept": 1, "lost": 2}, {"kept": 3, "added": 4}
    assert told(old, new, allow_new=True) == ["kept: 1 -> 3", "lost: only in OLD, at lost"]


def test_a_revision_that_does_not_exist_is_no_pass():
    answer = subprocess.run([sys.executable, HERE, "no-such-revision", "."], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "no-such-revision" in answer.stderr


def test_lines_of_times_are_left_out():
    lines = [
        "Machine: x86_64",
        "| row | Time | score |",
        "| --- | --- | --- |",
        "| decay | 3 s | 1 |",
        "| Time (good: low) | 3 s | 4 s |",
        "",
        "Retraining for as long: the same recipe.",
        "",
        "| method | pairs | of that retraining |",
        "| --- | --- | --- |",
        "| decay | 2 | 0.1 |",
        "",
        "| other | seconds |",
    ]
    kept = ["row | score", "--- | ---", "decay | 1", "", "", "", "other"]
    assert list(without_times(lines, {"Time", "seconds"})) == kept
