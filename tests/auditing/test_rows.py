"""The models of an audit: which roles there must be, and what their number says about the evidence."""

import pytest
from torch import nn

from efface.auditing.rows import LEAST_REFERENCES, Row, Rows
from efface.errors import InputError

MODEL = nn.Identity()


def row(name, role="other"):
    return Row(name, role, MODEL)


BEFORE, AFTER, RETRAINED = row("before", "original"), row("after", "candidate"), row("anew", "retrained")


@pytest.mark.parametrize(
    ("table", "further", "said"),
    [
        ((BEFORE,), (), "0 rows of 'before' have the role 'candidate'; give one."),
        ((AFTER, RETRAINED), (), "0 rows of 'after', 'anew' have the role 'original'; give one."),
        (
            (BEFORE, row("old", "original"), AFTER),
            (),
            "2 rows of 'before', 'old', 'after' have the role 'original'; give one.",
        ),
        ((BEFORE, AFTER), (RETRAINED,), "0 rows of 'before', 'after' have the role 'retrained'; give one."),
        (
            (BEFORE, AFTER, RETRAINED, row("again", "retrained")),
            (),
            "2 rows of 'before', 'after', 'anew', 'again' have the role 'retrained'; give at most one.",
        ),
        (
            (BEFORE, AFTER, row("z"), row("z"), row("b"), row("b")),
            (),
            "Two rows are called 'b'; give each model a name of its own.",
        ),
    ],
)
def test_rows_that_no_audit_can_compare_are_refused(table, further, said):
    with pytest.raises(InputError) as error:
        Rows(table, further=further)
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("retrained", "further", "level"),
    [(0, 0, "a"), (1, 0, "b"), (1, LEAST_REFERENCES - 2, "b"), (1, LEAST_REFERENCES - 1, "c"), (1, 9, "c")],
)
def test_the_level_follows_from_the_number_of_retrained_models(retrained, further, level):
    more = tuple(row("another", "retrained") for _ in range(further))
    rows = Rows((BEFORE, row("other"), *[RETRAINED] * retrained, AFTER), further=more)
    assert (rows.references, rows.level) == (retrained + further, level)
    assert rows.retrained is (RETRAINED if retrained else None)
    assert (rows.original, rows.candidate) == (BEFORE, AFTER)


def test_a_row_is_found_by_its_name_and_another_one_is_suggested():
    rows = Rows((BEFORE, AFTER))
    assert list(rows) == [BEFORE, AFTER]
    assert rows["after"] is AFTER
    with pytest.raises(InputError, match=r"There is no row 'befor'\. .*before"):
        rows["befor"]
