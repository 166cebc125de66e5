import pytest

from efface.data.counts import Counts
from efface.report import write
from efface.report.sharing import _nameless
from efface.request import Request

SECRETS = ("4711", "secret/0017.jpg", "secret-group", "A. Person", "ticket-812", "e" * 64)


@pytest.mark.parametrize("name", ["a.jpg", "o'brien; (1).jpg", "both ' and \".jpg", "back\\slash", "", "line\nbreak"])
def test_a_name_of_any_signs_is_taken_out_whole(name):
    assert _nameless(f"+1 (record 17 ({name!r}); 450 unseen records)") == "+1 (one record; 450 unseen records)"
    assert _nameless("+1 (record 17; 450 unseen records)") == "+1 (one record; 450 unseen records)"


def test_the_version_to_share_names_no_record_and_no_person(make_audit, record, sequence, tmp_path):
    base = make_audit("c")
    rows = [
        r.model_copy(update={"scores": r.scores | {"exposure": r.scores["exposure"].model_copy(update={"why": why})}})
        for r, why in zip(base.rows, ["record 4711 ('secret/0017.jpg'); a sub-sample"] * len(base.rows), strict=True)
    ]
    check = base.verdict.checks[1].model_copy(
        update={"finding": "+1.2 (record 4711 ('secret/0017.jpg'); 450 unseen records)"}
    )
    verdict = base.verdict.model_copy(update={"checks": (check,), "sentences": ("It is record 4711.",)})
    exposed = tuple(e.model_copy(update={"name": "secret/0017.jpg"}) for e in base.exposed)
    asked = Request(groups=("secret-group",), reason="ticket-812", requested_by="A. Person", ticket="ticket-812")
    audit = base.model_copy(
        update={
            "rows": tuple(rows), "verdict": verdict, "exposed": exposed, "request": asked.model_dump(mode="json"),
            "request_text": asked.describe(), "forget_classes": (), "counts": {"forget": 3, "retain": 9},
            "sequence": sequence,
        }
    )  # fmt: skip
    counts = Counts(asked=3, found=3, forgotten=3)
    made = record.model_copy(
        update={"request": asked, "forgotten_ids": ("secret/0017.jpg",), "counts": counts}
    )  # fmt: skip
    (tmp_path / "inside").mkdir()
    inside = "".join(f.read_text(encoding="utf-8") for f in write(audit, made, tmp_path / "inside"))
    assert all(secret in inside for secret in SECRETS)
    for file in write(audit, made, tmp_path, share=True):
        text = file.read_text(encoding="utf-8")
        assert [s for s in SECRETS if s in text] == [], file.name
        assert "Version to share" in text
