import json
import math

import pytest
from pydantic import ValidationError

from efface.auditing.catalogue import MEASURES
from efface.auditing.checks import Check
from efface.auditing.exposed import Exposed
from efface.auditing.plots import Plots
from efface.auditing.result import Audit, RowScores
from efface.auditing.scores.score import Score
from efface.auditing.verdict import Verdict


def _audit(**changes):
    fields = {
        "level": "a",
        "level_text": "",
        "candidate": "decay",
        "original": "original",
        "reference": None,
        "data": "digits",
        "data_fingerprint": "",
        "classes": ("0", "1"),
        "forget_classes": (0,),
        "request": {"classes": [0]},
        "request_text": "class 0",
        "request_fingerprint": "",
        "counts": {},
        "references": 0,
        "rows": tuple(RowScores(name=n, scores={"tow": Score(value=0.5)}) for n in ("original", "decay")),
        "verdict": Verdict(level="a", outcome="not assessed", headline="", sentences=(), checks=()),
    }
    return Audit(**{**fields, **changes})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_survives_json_as_null_with_a_reason(value):
    score = Score(value=value, low=value, high=1.0, why="relearning")
    assert score.value is None
    assert score.status == "not assessed"
    assert f"came out as {value}" in score.why
    assert Score.model_validate_json(score.model_dump_json()) == score


def test_a_score_without_value_is_never_measured():
    assert not Score().measured
    assert "no value" in Score().why
    assert not Score.missing("no reference").measured
    assert Score(value=0.0).measured


def test_json_goes_both_ways_and_holds_no_nan():
    audit = _audit(
        exposed=(Exposed(id=4, label=1, score=math.inf, margin=-math.inf, direction="left", measure="x"),),
        plots=Plots(per_class={"decay": (0.5, math.nan)}, history=({"stage": "decay", "step": 1, "loss": math.nan},)),
        seconds=math.inf,
    )
    text = audit.to_json()
    assert Audit.from_json(text) == audit
    data = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert data["plots"]["per_class"]["decay"] == [0.5, None]
    assert data["plots"]["history"] == [{"stage": "decay", "step": 1, "loss": None}]


def test_rows_must_hold_the_candidate_once():
    with pytest.raises(ValidationError, match="rows are named"):
        _audit(candidate="ssd")
    with pytest.raises(ValidationError, match="each name once"):
        _audit(rows=_audit().rows + _audit().rows[:1])
    assert _audit().row("decay")["tow"].value == 0.5
    with pytest.raises(KeyError):
        _audit().row("ssd")


def test_measures_are_explained_and_in_the_json():
    assert list(MEASURES) == [m.key for m in MEASURES.values()]
    assert all(len(m.reading) > 20 and m.reading.endswith(".") for m in MEASURES.values())
    assert Audit.from_json(_audit().to_json()).measures["ain"].title.startswith("Anamnesis")


def test_results_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        _audit().level = "c"
    with pytest.raises(ValidationError, match="Extra"):
        Score(value=1.0, p_value=0.05)


@pytest.mark.parametrize(
    ("level", "control", "outcomes", "answer"),
    [
        ("b", True, {"test": "alike", "forget": "alike"}, "no difference found"),
        ("b", True, {"test": "differs", "forget": "alike"}, "no difference found"),
        ("b", True, {"test": "alike", "forget": "differs"}, "no"),
        ("a", None, {"forget": "differs", "probe": "not assessed"}, "no"),
        ("b", True, {"forget": "alike", "probe": "not assessed"}, "could not tell"),
        ("b", False, {"forget": "alike"}, "could not tell"),
        ("a", None, {"forget": "alike"}, "could not tell"),
        ("b", True, {"test": "alike"}, "could not tell"),
    ],
)
def test_did_it_forget(level, control, outcomes, answer):
    checks = tuple(Check(key=k, question="", outcome=o, finding="", measure="tow") for k, o in outcomes.items())
    verdict = Verdict(level=level, outcome="differs", headline="", sentences=(), checks=checks, control=control)
    assert verdict.answer == answer
