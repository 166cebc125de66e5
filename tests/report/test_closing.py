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


def test_what_came_back_of_an_earlier_request_closes_nothing(make_audit, sequence):
    audit = with_outcomes(make_audit, "c", "alike")
    told = audit.model_copy(update={"sequence": sequence})
    assert answers(told)[0].short == "Not all of it"
    assert "request 2" in answers(told)[0].rest
    assert may_be_closed(told).short == "Not with this model"
    fine = audit.model_copy(update={"sequence": sequence[:1]})
    assert answers(fine)[0] == answers(audit)[0]
    assert may_be_closed(fine) == may_be_closed(audit)
    unknown = sequence[0].model_copy(update={"answer": "could not tell"})
    assert may_be_closed(audit.model_copy(update={"sequence": (unknown,)})).short == "Not on this evidence"
