import pytest

from efface.report.closing import answers, may_be_closed


def with_outcomes(make_audit, level, *outcomes, useful="alike"):
    base = make_audit(level)
    like = base.verdict.checks[1]
    checks = tuple(like.model_copy(update={"key": f"q{i}", "outcome": o}) for i, o in enumerate(outcomes))
    checks = tuple(c if c.outcome == "differs" else c.model_copy(update={"direction": ""}) for c in checks)
    outcome = "differs" if "differs" in outcomes else "not assessed" if "not assessed" in outcomes else "alike"
    update = {"checks": checks, "outcome": outcome, "useful": useful}
    return base.model_copy(update={"verdict": base.verdict.model_copy(update=update)})


@pytest.mark.parametrize(
    ("level", "outcomes", "short"),
    [
        ("c", ("alike", "alike"), "Yes, as far as this audit can see"),
        ("c", ("alike", "differs"), "Not with this model"),
        ("c", ("alike", "not assessed"), "Not on this evidence"),
        ("a", ("alike", "alike"), "Not on this evidence"),
    ],
)
def test_only_an_audit_that_found_nothing_and_could_have_closes_a_request(make_audit, level, outcomes, short):
    audit = with_outcomes(make_audit, level, *outcomes)
    assert may_be_closed(audit).short == short
    assert [a.question for a in answers(audit)][2] == "May this request be closed?"


def test_a_record_that_does_not_fit_or_failed_closes_nothing(make_audit, record):
    audit = with_outcomes(make_audit, "c", "alike")
    assert may_be_closed(audit, record).tone == "alike"
    assert may_be_closed(audit, record.model_copy(update={"failures": ("nothing was changed",)})).short == "No"
    assert may_be_closed(audit, record.model_copy(update={"request_fingerprint": "0" * 64})).short == "No"


def test_the_answer_counts_the_questions(make_audit):
    said = answers(with_outcomes(make_audit, "c", "alike", "differs", "not assessed"))[0]
    assert said.short == "No"
    assert "1 of 3 questions" in said.rest
