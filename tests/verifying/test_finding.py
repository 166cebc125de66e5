"""Findings: what fails, what holds, and what was not checked."""

from efface.verifying.finding import Finding, Verification

HOLDS = Finding(subject="weights", outcome="holds", text="as recorded")
FAILS = Finding(subject="data", outcome="fails", text="other data")
SKIPPED = Finding(subject="scores", outcome="not checked", text="no data")


def test_anything_wrong_fails():
    assert Finding.of("data", "other data", "as recorded") == FAILS
    assert Finding.of("weights", "", "as recorded") == HOLDS


def test_what_was_not_checked_neither_fails_nor_counts_as_a_pass():
    assert Verification(findings=(HOLDS, SKIPPED)).ok
    assert not Verification(findings=(HOLDS, FAILS, SKIPPED)).ok
    assert Verification(findings=(HOLDS, SKIPPED, HOLDS)).lines() == [
        "holds        weights  as recorded",
        "not checked  scores   no data",
        "holds        weights  as recorded",
        "nothing failed (2 x holds, 1 x not checked)",
    ]
    assert Verification(findings=(FAILS,)).lines() == [
        "fails        data  other data",
        "it does not check out (1 x fails)",
    ]
    assert Verification(findings=()).lines() == ["nothing failed ()"]


def test_json_goes_both_ways():
    found = Verification(findings=(HOLDS, FAILS))
    assert Verification.model_validate_json(found.to_json()) == found
    assert found.to_json().startswith('{\n  "findings"')
