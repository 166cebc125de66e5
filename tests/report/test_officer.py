from datetime import date

import pytest

from efface.data.counts import Counts
from efface.report.officer import deadline, for_the_officer


@pytest.mark.parametrize(
    ("received", "last"),
    [
        (date(2026, 3, 4), date(2026, 4, 4)),
        (date(2026, 1, 31), date(2026, 2, 28)),
        (date(2028, 1, 31), date(2028, 2, 29)),
        (date(2026, 12, 31), date(2027, 1, 31)),
    ],
)
def test_the_deadline_is_the_same_day_of_the_next_month_or_its_last(received, last):
    assert deadline(received) == last


def test_the_request_is_filed_with_who_and_when_and_a_late_answer_is_said_to_be(make_audit, record):
    request = {"classes": [1], "requested_at": "2026-01-31T05:06:07Z", "requested_by": "A. Person", "ticket": "812"}
    facts = for_the_officer(make_audit(request=request), record).facts
    assert (facts["Asked by"], facts["Filed under"]) == ("A. Person", "812")
    assert facts["To be answered by"] == "28 February 2026"
    assert facts["Within the deadline"] == "no, 5 days late"  # the record is of 5 March 2026
    assert for_the_officer(make_audit(request={"classes": [1]})).facts["Received"] == "not recorded"


def test_counts_add_up_to_what_was_asked_for(audit, record):
    counts = Counts(asked=40, found=38, forgotten=36, untrained=2, in_test=1, repeated=1)
    *kinds, (_, total) = for_the_officer(audit, record.model_copy(update={"counts": counts})).counts
    assert sum(n for _, n in kinds) == total == 40


def test_every_question_about_forgetting_is_tried_by_someone(audit):
    officer = for_the_officer(audit)
    asked = [q for t in officer.tried for q in t.questions]
    assert sorted(asked) == ["Is it gone?", "Who knows?"]
    assert "1 found a difference" in " ".join(t.found for t in officer.tried)


def test_the_old_model_is_named_by_its_hash(audit, record):
    assert "b" * 64 in [c.mark for c in for_the_officer(audit, record).copies]


def test_only_files_that_there_are_may_still_hold_the_data(audit, record):
    forgotten = [c.what for c in for_the_officer(audit, record).copies]
    assert {"record.json and audit.json", "Temporary files"} <= set(forgotten)
    assert "The tables of predictions" not in forgotten
    copies = for_the_officer(audit.model_copy(update={"answers_only": True})).copies
    answered = [c.what for c in copies]
    assert not any("folder of references" in c.why or "makes the model forget" in c.why for c in copies)
    assert {"audit.json", "The tables of predictions", "The model before"} <= set(answered)
    assert not {"record.json and audit.json", "Temporary files"} & set(answered)


def test_the_letter_promises_nothing_that_the_audit_did_not_find(make_audit, record):
    assert "still open" in for_the_officer(make_audit(), record).letter
    assert "found no difference" not in for_the_officer(make_audit("a", "not assessed"), record).letter
