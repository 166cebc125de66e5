import json
import math

import pytest
from pydantic import ValidationError

from efface.auditing.catalogue import MEASURES
from efface.auditing.checks import Check
from efface.auditing.exposed import Exposed
from efface.auditing.plots import Plots
from efface.auditing.result import Audit, RowScores, Served
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


# --- what is shown of an audit --------------------------------------------------------------------------------------


def _checked(*outcomes):
    checks = tuple(
        Check(key=f"q{i}", question="", outcome=o, finding="", measure=m) for i, (o, m) in enumerate(outcomes)
    )
    return Verdict(level="a", outcome="differs", headline="It is <known>.", sentences=(), checks=checks)


def test_one_line_says_what_was_audited_and_what_came_of_it():
    verdict = _checked(("alike", "tow"), ("differs", "nomus"), ("alike", "aus"))
    audit = _audit(verdict=verdict)
    assert repr(audit) == (
        "<Audit of 'decay', asked to forget class 0 (digits); level (a); did it forget? no; "
        "questions: alike 2, differs 1>"
    )
    assert str(audit) == "It is <known>."


def test_a_notebook_shows_the_scores_that_the_verdict_asked_about():
    rows = (
        RowScores(name="original", scores={"tow": Score(value=0.5), "aus": Score(), "zrf": Score(value=0.1)}),
        RowScores(name="decay", scores={"tow": Score(), "aus": Score(), "zrf": Score(value=0.2)}),
    )
    # Twice asked about is shown once; what no row has, or no measure explains, is not shown; nor what is not asked.
    asked = _checked(("alike", "tow"), ("differs", "tow"), ("not assessed", "aus"), ("alike", "of another version"))
    html = _audit(rows=rows, verdict=asked)._repr_html_()
    title = MEASURES["tow"].title
    assert html == (
        "<div><b>Audit: forget class 0 (digits)</b><br>did it forget: no<br>verdict: It is &lt;known&gt;."
        f"<table><thead><tr><th></th><th>{title}</th></tr></thead><tbody>"
        "<tr><td>original</td><td>50.0\u00a0%</td></tr><tr><td>decay</td><td>–</td></tr></tbody></table></div>"
    )


def test_a_frame_has_one_line_for_each_score_of_each_row():
    names = ("original", "anew", "tuned", "decay")
    scores = {"tow": Score(value=0.5, low=0.25), "seconds": Score.missing("not timed")}
    audit = _audit(rows=tuple(RowScores(name=n, scores=scores) for n in names), reference="anew", level="b")
    frame = audit.to_frame()
    assert list(frame.columns) == ["row", "role", "score", "group", "title", "unit", *Score.model_fields]
    assert list(frame.row) == [n for n in names for _ in scores]
    assert list(frame.role[::2]) == ["original", "retrained", "other", "candidate"]
    assert list(frame.score) == ["tow", "seconds"] * 4
    for column in ("group", "title", "unit"):
        assert list(frame[column][:2]) == [getattr(MEASURES[k], column) for k in scores]
    assert frame.value[0] == 0.5
    assert frame.low[0] == 0.25
    assert math.isnan(frame.value[1])
    assert list(frame.why[:2]) == ["", "not timed"]
    numbers = [c for c in frame if str(frame[c].dtype) == "float64"]
    assert numbers == [c for c in Score.model_fields if c not in {"status", "why", "bound"}]


def test_the_answer_is_the_worst_of_all_requests():
    def served(answer):
        return Served(
            step=1, text="", method="", fingerprint="", records=1, outcome="alike", answer=answer,
        )  # fmt: skip

    own = Verdict(
        level="b", outcome="alike", headline="", sentences=(), control=True,
        checks=(Check(key="forget", question="", outcome="alike", finding="", measure="tow"),),
    )  # fmt: skip
    assert _audit(verdict=own).answer == "no difference found"
    for answers, worst in (
        (("no difference found",), "no difference found"),
        (("could not tell", "no difference found"), "could not tell"),
        (("could not tell", "no"), "no"),
    ):
        assert _audit(verdict=own, sequence=tuple(map(served, answers))).answer == worst
    assert _audit(sequence=(served("no difference found"),)).answer == "could not tell"


def test_figures_are_those_that_are_illustrated(monkeypatch):
    import types

    from efface.auditing import figures

    def illustrated(audit, record):
        return {"time": types.SimpleNamespace(figure=(audit, record))}

    monkeypatch.setattr(figures, "illustrations", illustrated)
    audit = _audit()
    assert audit.figures("a record") == {"time": (audit, "a record")}
    assert audit.figures() == {"time": (audit, None)}
