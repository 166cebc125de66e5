import math

import pytest
import torch

from efface.auditing.floors import Floors
from efface.auditing.measures import MEASURES
from efface.auditing.result import Check, Score
from efface.auditing.subject import AuditSettings
from efface.auditing.verdict import LEVELS, checks_against_floor, checks_against_original, conclude

SETTINGS = AuditSettings()


def _scores(**changed):
    scores = {key: Score.missing("not part of this test") for key in MEASURES}
    fine = {
        "test_accuracy": 0.95,
        "retain_accuracy": 0.99,
        "forget_accuracy": 0.0,
        "test_forget_accuracy": 0.0,
        "population_auc": 0.5,
        "forget_shift": 0.5,
        "rmia_auc": 0.5,
        "probe_recall": 0.9,
        "probe_recall_few": 0.5,
        "separation": 1.3,
    }
    for key, value in fine.items():
        scores[key] = Score(value=value, reference=value, gap=0.0, gap_low=-0.01, gap_high=0.01)
    scores["relearn_steps"] = Score(value=70, reference=70.0)
    scores["ain"] = Score(value=1.0)
    return {**scores, **changed}


def _gap(value, low, high, reference=0.5):
    return Score(value=value, reference=reference, gap=(low + high) / 2, gap_low=low, gap_high=high)


def _checks(scores, level="b", floors=None, by_class=True):
    found = checks_against_floor(scores, floors or Floors(), SETTINGS, by_class=by_class, level=level, strict=0.99)
    return {c.key: c for c in found}


def test_no_difference_anywhere_is_alike_and_the_level_comes_first():
    checks = _checks(_scores())
    verdict = conclude("b", "decay", tuple(checks.values()))
    assert {c.outcome for c in checks.values()} == {"alike"}
    assert verdict.outcome == "alike"
    assert verdict.headline.startswith("Level (b), compared with one retrained model")
    assert "'decay'" in verdict.headline


@pytest.mark.parametrize(
    ("key", "measure", "low", "high", "direction"),
    [
        ("forget", "forget_accuracy", 0.3, 0.5, "left"),
        ("forget", "forget_accuracy", -0.5, -0.3, "over"),
        ("test", "test_accuracy", -0.2, -0.1, "worse"),
        ("test", "test_accuracy", 0.1, 0.2, "better"),
        ("record", "rmia_auc", 0.05, 0.2, "left"),
        ("record", "rmia_auc", -0.2, -0.05, "over"),
        ("confidence", "forget_shift", -0.5, -0.4, "over"),
        ("probe", "probe_recall", 0.05, 0.1, "left"),
        ("probe-few", "probe_recall_few", 0.2, 0.4, "left"),
        ("separation", "separation", 0.5, 0.9, "left"),
    ],
)
def test_a_gap_beyond_the_tolerance_differs_on_its_side(key, measure, low, high, direction):
    check = _checks(_scores(**{measure: _gap(0.5, low, high, 1.0)}))[key]
    assert (check.outcome, check.direction) == ("differs", direction)
    assert conclude("b", "x", [check]).outcome == "differs"


def test_a_gap_whose_interval_reaches_into_the_tolerance_does_not_differ():
    assert _checks(_scores(forget_accuracy=_gap(0.5, 0.01, 0.5)))["forget"].outcome == "alike"
    assert _checks(_scores(separation=_gap(1.5, 0.1, 0.9, 1.3)))["separation"].outcome == "alike"


def test_missing_is_never_a_pass():
    for measure in ("rmia_auc", "probe_recall", "ain", "population_auc", "forget_accuracy"):
        missing = {measure: Score.missing("why not")}
        if measure == "ain":
            missing["relearn_steps"] = missing["ain"]
        checks = tuple(_checks(_scores(**missing)).values())
        verdict = conclude("b", "x", checks)
        assert verdict.outcome == "not assessed"
        assert any("why not" in s and s.startswith("Not assessed") for s in verdict.sentences)
    found = _checks(_scores(forget_accuracy=Score(value=0.0)))["forget"]
    assert found.outcome == "not assessed"


def test_relearning_is_two_sided_and_a_bound_decides_only_on_its_own_side():
    def relearn(steps, ain, why=""):
        changed = {"relearn_steps": Score(value=steps, reference=70.0), "ain": Score(value=ain, why=why)}
        return _checks(_scores(**changed))["relearn"]

    assert relearn(10, 0.14).direction == "left"
    assert relearn(200, 2.9).direction == "over"
    assert relearn(60, 0.86).outcome == "alike"
    assert relearn(100, 1.4, "at least: capped").outcome == "not assessed"
    assert relearn(150, 2.1, "at least: capped").direction == "over"
    assert relearn(30, 0.3, "at most: capped").direction == "left"
    assert relearn(90, 0.9, "at most: capped").outcome == "not assessed"
    assert relearn(70, 1.0, "at least: capped; at most: capped").outcome == "alike"


def test_a_few_relearning_steps_decide_nothing_where_the_retrained_model_needs_none():
    def relearn(steps):
        changed = {"relearn_steps": Score(value=steps, reference=0.0), "ain": Score(value=math.inf)}
        return _checks(_scores(**changed))["relearn"]

    assert relearn(2).outcome == "alike"
    assert relearn(10).direction == "over"


def test_level_c_judges_against_the_spread_of_retrained_models():
    floors = Floors({"forget_accuracy": [0.50, 0.52, 0.48, 0.51], "relearn_steps": [60.0, 70.0, 80.0, 75.0]})
    inside = _checks(_scores(forget_accuracy=_gap(0.55, 0.03, 0.07)), "c", floors)["forget"]
    outside = _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c", floors)["forget"]
    unsure = _checks(_scores(forget_accuracy=_gap(0.75, -0.1, 0.6)), "c", floors)["forget"]
    assert [c.outcome for c in (inside, outside, unsure)] == ["alike", "differs", "alike"]
    # Without a floor nothing lies outside of it.
    assert _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c")["forget"].outcome == "not assessed"


def test_ensembles_are_judged_against_retrained_halves():
    def ensemble(key, value):
        bands = {"lira_accuracy": (0.48, 0.52), "quality": (0.45, 0.55), "klom_forget": (0.7, 0.9)}
        changed = {
            k: Score(value=sum(b) / 2, floor=sum(b) / 2, floor_low=b[0], floor_high=b[1]) for k, b in bands.items()
        }
        changed[key] = changed[key].model_copy(update={"value": value})
        return _checks(_scores(**changed))[key.replace("_", "-")].outcome

    assert ensemble("lira_accuracy", 0.51) == "alike"
    assert ensemble("lira_accuracy", 0.7) == "differs"
    assert ensemble("quality", 0.3) == "differs"
    assert ensemble("quality", 0.6) == "alike"
    assert ensemble("klom_forget", 2.0) == "differs"


def test_items_are_not_asked_about_classes():
    assert not {"probe", "probe-few", "separation", "forget-test"} & set(_checks(_scores(), by_class=False))


def test_level_a_finds_what_needs_no_reference_and_never_passes():
    def check(**changed):
        scores = {
            **_scores(),
            "test_accuracy": Score(value=0.95, low=0.94, high=0.96, original=0.95),
            "retain_accuracy": Score(value=0.99, low=0.98, high=1.0, original=0.99),
            "forget_accuracy": Score(value=0.0, low=0.0, high=0.01, original=1.0),
            **changed,
        }
        return checks_against_original(scores, SETTINGS, by_class=True)

    verdict = conclude("a", "x", check())
    assert verdict.outcome == "not assessed"
    assert LEVELS["a"] in verdict.headline
    known = check(forget_accuracy=Score(value=0.9, low=0.8, high=0.95, original=1.0))
    assert conclude("a", "x", known).outcome == "differs"
    lost = check(test_accuracy=Score(value=0.5, low=0.4, high=0.6, original=0.95))
    assert "usefulness was lost" in conclude("a", "x", lost).headline


def test_passing_what_the_original_passes_too_shows_nothing():
    checks = tuple(_checks(_scores()).values())
    weak = conclude("b", "x", checks, checks)
    assert (weak.outcome, weak.control) == ("not assessed", False)
    control = _checks(_scores(separation=_gap(2.5, 1.0, 1.4, 1.3)))
    strong = conclude("b", "x", checks, tuple(control.values()))
    assert (strong.outcome, strong.control) == ("alike", True)
    assert any(s.endswith("by: separation.") for s in strong.sentences)
    # What differs differs, whatever the control.
    assert conclude("b", "x", tuple(control.values()), checks).outcome == "differs"


def test_headline_names_every_kind_of_difference():
    checks = [
        Check(key=str(i), question="?", outcome="differs", finding="", measure="tow", direction=d)
        for i, d in enumerate(("left", "over", "worse"))
    ]
    headline = conclude("b", "x", checks).headline
    for words in ("knowledge of the forget data is left", "over-unlearned", "usefulness was lost"):
        assert words in headline


def test_floors_hold_further_retrained_models_as_often_as_they_say():
    g = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(500):
        draws = torch.randn(9, generator=g).tolist()
        floors = Floors()
        for x in draws[:8]:
            floors.add({"aus": Score(value=x), "ain": Score.missing("no")})  # the one score without bounds
        band = floors.band("aus", 0.95)
        inside += band.low <= draws[8] <= band.high
    # Nominal 475; three standard errors are 15.
    assert 460 <= inside <= 490
    assert math.isnan(floors.band("ain", 0.95).value)


def test_floors_stay_within_what_a_score_can_be():
    floors = Floors()
    for share, steps in ((0.5, 3), (0.9, 17), (0.7, 24)):
        floors.add({"forget_shift": Score(value=share), "relearn_steps": Score(value=steps)})
    wide, steps = floors.band("forget_shift", 0.99), floors.band("relearn_steps", 0.9)
    assert (wide.low, wide.high) == (0, 1)
    # Student's interval is 14.67 -+ 35.7: no fewer than 0 steps, and 50.3 means that 51 may be seen.
    assert (steps.low, steps.high) == (0, 51)


SIDES = {
    "test": ("test_accuracy", "worse", "better"),
    "retain": ("retain_accuracy", "worse", "better"),
    "forget": ("forget_accuracy", "over", "left"),
    "forget-test": ("test_forget_accuracy", "over", "left"),
    "threshold": ("population_auc", "over", "left"),
    "confidence": ("forget_shift", "over", "left"),
    "record": ("rmia_auc", "over", "left"),
    "probe": ("probe_recall", "over", "left"),
    "probe-few": ("probe_recall_few", "over", "left"),
    "separation": ("separation", "over", "left"),
    "relearn": ("relearn_steps", "left", "over"),
}
"""What an answer below and above the retrained model's means, by question."""


@pytest.mark.parametrize("level", ["b", "c"])
@pytest.mark.parametrize("key", SIDES)
def test_every_question_is_two_sided_at_every_level_with_a_reference(key, level):
    measure, below, above = SIDES[key]
    if key == "relearn":
        floors = Floors({measure: [68.0, 70.0, 71.0, 69.0]})
        sides = {steps: {"relearn_steps": Score(value=steps, reference=70.0)} for steps in (5.0, 70.0, 400.0)}
    else:
        floors = Floors({measure: [0.50, 0.51, 0.49, 0.50]})
        sides = {value: {measure: _gap(value, value - 0.51, value - 0.49)} for value in (0.1, 0.5, 0.9)}
    found = [_checks(_scores(**changed), level, floors)[key] for changed in sides.values()]
    assert [c.outcome for c in found] == ["differs", "alike", "differs"]
    assert [c.direction for c in found] == [below, "", above]


def test_the_questions_asked_are_these():
    assert set(_checks(_scores())) == set(SIDES)
    of_items = set(SIDES) - {"forget-test", "probe", "probe-few", "separation"}
    assert set(_checks(_scores(), by_class=False)) == of_items
