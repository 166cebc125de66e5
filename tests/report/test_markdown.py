import re

from efface import words
from efface.report import markdown

EVIL = "<script>alert(1)</script> | **x** [y](http://z) \n# `c`"


def tables(text: str) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [t for t in found if t]


def test_the_verdict_with_its_level_comes_first(make_audit):
    for level in "abc":
        audit = make_audit(level)
        text = markdown(audit)
        assert text.index(
            "**Did it forget? No. Is it still useful? Could not tell.** " + audit.verdict.headline
        ) < text.index("## ")


def test_text_from_outside_stays_text(make_audit, record):
    base = make_audit()
    rows = [row.model_copy(update={"name": EVIL}) if row.name == "fine-tuned" else row for row in base.rows]
    audit = make_audit(
        names=("zero", EVIL, "two"), rows=rows, request={"reason": EVIL}, request_text=EVIL, notes=(EVIL,)
    )
    text = markdown(audit, record.model_copy(update={"notes": (EVIL,), "settings": {EVIL: EVIL}}))
    assert "<script" not in text
    assert "**x**" not in text
    assert not re.search(r"(?<!\\)\[y", text)
    assert "\n# `c`" not in text
    for table in tables(text):
        assert len({len(row) for row in table}) == 1, table[0]


def test_rows_floors_and_records_are_there(audit):
    text = markdown(audit)
    for row in audit.rows:
        assert words.number(row["test_accuracy"].value, "share") in text
    assert "noise floor" in text
    assert "4711" in text
    assert "needs many models" in text


def test_without_a_record_it_says_so(audit):
    assert "No record was given" in markdown(audit)


def test_every_request_so_far_has_a_line(make_audit, sequence):
    assert "Every request so far" not in markdown(make_audit())
    text = markdown(make_audit(sequence=sequence))
    (table,) = (t for t in tables(text) if t[0][0] == "Request")
    assert table[2] == [
        "1. group secret-group", "12", "decay", "98.0 %", "31.0 %", "32.0 %", "33.0 %", "no difference found", "–",
    ]  # fmt: skip
    assert table[3][3:] == ["–", "–", "87.0 %", "–", "no", "Is it gone?"]
    assert "<b>" not in text
    assert "All 3 requests" in text
