"""Two audits of one model, made by hand: which differences are named."""

import pytest

from efface.auditing.catalogue import MEASURES
from efface.auditing.result import Audit
from efface.auditing.scores.score import Score
from efface.running.machine import Machine
from efface.verifying.recomputed import TOLERANCE, compare_scores
from tests.report.conftest import UNMEASURED, build, served


def changed(audit: Audit, row: str, **values: float | None) -> Audit:
    """The audit with other values of one row."""
    rows = [
        r.model_copy(
            update={
                "scores": {**r.scores, **{k: r.scores[k].model_copy(update={"value": v}) for k, v in values.items()}}
            }
        )
        if r.name == row
        else r
        for r in audit.rows
    ]
    return audit.model_copy(update={"rows": tuple(rows)})


def texts(recorded: Audit, again: Audit, **settings: float) -> dict[str, tuple[str, str]]:
    return {f.subject: (f.outcome, f.text) for f in compare_scores(recorded, again, **settings)}


HERE = Machine.here()

COMPARED = sum(m.group != "cost" for m in MEASURES.values()) - len(UNMEASURED)


def test_equal_audits_hold_and_rows_that_an_audit_trains_itself_are_not_compared():
    found = texts(build(), build())
    assert list(found) == ["scores of 'original'", "scores of 'retrained'", "scores of 'mnemonic'", "scores", "verdict"]
    for row in ("original", "retrained", "mnemonic"):
        assert found[f"scores of {row!r}"] == ("holds", f"{COMPARED} scores come out as recorded")
    assert found["scores"] == ("not checked", "row 'fine-tuned', row 'logit mask'")
    assert found["verdict"] == ("holds", "comes out as recorded: differs")


@pytest.mark.parametrize("sign", [1, -1])
def test_shares_may_differ_by_half_a_point_other_units_by_half_a_per_cent(sign):
    recorded = changed(build(), "mnemonic", test_accuracy=0.5, separation=40.0, forget_js=0.3, relearn_steps=50.0)
    assert MEASURES["test_accuracy"].unit == "share"
    assert MEASURES["separation"].unit != "share"
    name = "scores of 'mnemonic'"
    near = {"test_accuracy": 0.5 + sign * 0.0049, "separation": 40 + sign * 0.19, "relearn_steps": 50 + sign * 4.9}
    assert texts(recorded, changed(recorded, "mnemonic", **near))[name][0] == "holds"
    for key, value, words in (
        ("test_accuracy", 0.5 + sign * 0.0051, f"test_accuracy {0.5 + sign * 0.0051:.4g}, recorded 0.5"),
        ("separation", 40 + sign * 0.21, f"separation {40 + sign * 0.21:.4g}, recorded 40"),
        ("relearn_steps", 50 + sign * 5.1, f"relearn_steps {50 + sign * 5.1:.4g}, recorded 50"),
    ):
        assert texts(recorded, changed(recorded, "mnemonic", **{key: value}))[name] == ("fails", words)
    # Below 1 the tolerance of other units is absolute.
    low = changed(build(), "mnemonic", separation=0.1, relearn_steps=0.0)
    assert texts(low, changed(low, "mnemonic", separation=0.1049, relearn_steps=0.09))[name][0] == "holds"
    assert texts(low, changed(low, "mnemonic", separation=0.1051))[name][0] == "fails"
    assert texts(low, changed(low, "mnemonic", relearn_steps=0.11))[name][0] == "fails"


def test_the_tolerance_can_be_set_and_every_difference_is_named():
    again = changed(build(), "original", test_accuracy=0.9, retain_accuracy=0.9)
    outcome, text = texts(build(), again)["scores of 'original'"]
    first, second = text.split("; ")
    assert (outcome, first.count(", recorded "), second.count(", recorded ")) == ("fails", 1, 1)
    assert texts(build(), again, tolerance=0.9)["scores of 'original'"][0] == "holds"
    assert texts(build(), again)["scores of 'mnemonic'"][0] == "holds"
    assert TOLERANCE == 0.005


def test_costs_are_not_compared_and_what_is_missing_now_is_said():
    slower = changed(build(), "mnemonic", seconds=1e6, speedup=0.001)
    assert texts(build(), slower)["scores of 'mnemonic'"][0] == "holds"
    less = changed(build(), "mnemonic", test_accuracy=None)
    found = texts(build(), less)
    assert found["scores of 'mnemonic'"] == ("holds", f"{COMPARED - 1} scores come out as recorded")
    assert "test_accuracy of 'mnemonic'" in found["scores"][1]
    # What was not measured then cannot come out otherwise.
    assert "test_accuracy" not in texts(less, build())["scores"][1]


def test_rows_that_were_not_made_again_are_said():
    again = build()
    again = again.model_copy(update={"rows": tuple(r for r in again.rows if r.name != "original")})
    found = texts(build(), again)
    assert "scores of 'original'" not in found
    assert found["scores"][1].startswith("row 'original', row 'fine-tuned'")


def test_other_references_leave_only_what_needs_none_and_no_verdict():
    again = build(references=3)
    found = texts(build(), again)
    assert found["verdict"] == (
        "not checked",
        "the recorded verdict is of level c with 5 retrained models; give the same ones",
    )
    alone = sum(m.group in {"utility", "features"} for m in MEASURES.values()) + 3
    alone -= sum(k in UNMEASURED and MEASURES[k].group in {"utility", "features"} for k in MEASURES)
    assert found["scores of 'original'"] == ("holds", f"{alone} scores come out as recorded")
    outcome, text = found["scores"]
    assert outcome == "not checked"
    assert text.endswith("(3 retrained models given, 5 recorded)")
    assert " and " in text
    assert text.count(" of '") == 4
    assert texts(build(), build(level="b", references=5))["verdict"][0] == "not checked"
    # A score that needs no reference is still compared.
    assert texts(build(), changed(again, "mnemonic", population_auc=0.99))["scores of 'mnemonic'"][0] == "fails"
    assert texts(build(), changed(again, "mnemonic", rmia_auc=0.99))["scores of 'mnemonic'"][0] == "holds"


def sealed(audit: Audit, **values: float) -> Audit:
    """The audit with sealed scores in every row."""
    known = {"head_bias": 1.0, "kept_data_margin": 1.0, "neighbourhood": 0.25, "kept_mass": 0.1}
    scores = {k: Score(value=v) for k, v in (known | values).items()}
    rows = [r.model_copy(update={"scores": {**r.scores, **scores}}) for r in audit.rows]
    return audit.model_copy(update={"rows": tuple(rows)})


def test_sealed_scores_are_compared_in_findings_of_their_own():
    assert not any("sealed" in subject for subject in texts(build(), build()))
    recorded, name = sealed(build()), "sealed scores of 'mnemonic'"
    assert texts(recorded, sealed(build()))[name] == ("holds", "4 sealed scores come out as recorded")
    assert texts(recorded, sealed(build(), head_bias=-60.0))[name] == ("fails", "head_bias -60, recorded 1")
    assert texts(recorded, sealed(build(), neighbourhood=0.2551))[name][0] == "fails"
    assert texts(recorded, sealed(build(), head_bias=1.006))[name][0] == "fails"
    # What trains for its score may differ as relearning may.
    assert texts(recorded, sealed(build(), kept_data_margin=1.09))[name][0] == "holds"
    assert texts(recorded, sealed(build(), kept_data_margin=1.11))[name][0] == "fails"
    assert texts(recorded, sealed(build()))["scores of 'mnemonic'"] == (
        "holds",
        f"{COMPARED} scores come out as recorded",
    )


def test_a_sealed_score_that_is_missing_now_or_has_other_references_is_not_checked():
    found = texts(sealed(build()), build())
    assert "sealed scores of 'mnemonic'" not in found
    assert found["scores"][0] == "not checked"
    assert "head_bias of 'original'" in found["scores"][1]
    found = texts(sealed(build()), sealed(build(references=3)))
    assert found["sealed scores of 'mnemonic'"] == ("holds", "3 sealed scores come out as recorded")


@pytest.mark.parametrize(("missing", "words"), [(2, ""), (3, " and 1 more"), (4, " and 2 more")])
def test_of_what_was_not_compared_four_are_named(missing, words):
    """Two rows are always among them."""
    keys = [k for k, s in build().row("mnemonic").scores.items() if s.measured and MEASURES[k].group != "cost"][
        :missing
    ]
    text = texts(build(), changed(build(), "mnemonic", **dict.fromkeys(keys)))["scores"][1]
    named, _, more = text.partition(" and ")
    assert named.count(", ") == 3
    assert (f" and {more}" if more else "") == words


def test_another_verdict_fails():
    again = build(outcome="alike")
    assert texts(build(), again)["verdict"] == ("fails", "'alike', recorded 'differs'")


def test_a_score_that_this_version_does_not_know_is_left_out():
    rows = [r.model_copy(update={"scores": {**r.scores, "new_score": Score(value=1.0)}}) for r in build().rows]
    strange = build().model_copy(update={"rows": tuple(rows)})
    assert texts(strange, build())["scores of 'original'"] == ("holds", f"{COMPARED} scores come out as recorded")


def test_every_request_of_a_sequence_is_compared():
    sequence = served()
    recorded = build(sequence=sequence)
    assert texts(recorded, recorded)["request 2"] == ("holds", f"{sequence[1].text}: comes out as recorded")
    for change, named in (
        ({"now": 0.5}, "now 0.5, recorded 0.32"),
        ({"original": None}, "before not measured, recorded 0.98"),
        ({"answer": "no"}, "answer 'no', recorded 'no difference found'"),
        ({"fingerprint": "0" * 64}, "it means other records than were recorded"),
    ):
        again = build(sequence=(sequence[0].model_copy(update=change), *sequence[1:]))
        found = texts(recorded, again)
        assert found["request 1"] == ("fails", named)
        assert found["request 2"][0] == found["request 3"][0] == "holds"


def test_scores_that_differ_are_explained_by_the_machine_and_fail_all_the_same():
    recorded = changed(build(machine=HERE), "mnemonic", test_accuracy=0.5)
    other = changed(recorded, "mnemonic", test_accuracy=0.6)
    two = other.model_copy(update={"machine": HERE.model_copy(update={"threads": 2 + HERE.threads})})
    found = texts(recorded, two)
    assert found["scores of 'mnemonic'"][0] == "fails"
    assert found["machine of the audit"][0] == "not checked"
    assert f"{2 + HERE.threads} threads instead of {HERE.threads}" in found["machine of the audit"][1]
    assert "rounding explains no difference" in texts(recorded, other)["machine of the audit"][1]
    assert "machine of the audit" not in texts(recorded, recorded)
    assert "machine of the audit" not in texts(build(), changed(build(), "mnemonic", test_accuracy=0.5))
