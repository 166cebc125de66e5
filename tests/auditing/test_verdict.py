import math

import pytest
import torch

from efface.auditing.catalogue import MEASURES
from efface.auditing.checks import Check, Standard, checks_against_floor, checks_against_original, not_assessed
from efface.auditing.floors import Floors
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings
from efface.auditing.verdict import LEVELS, conclude

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
    scores["exposure_ratio"] = Score(value=1.1, why="record 5; 100 unseen records")
    scores["exposure"] = Score(value=-3.0, why="record 7; standard deviations")
    scores["ain"] = Score(value=1.0)
    return {**scores, **changed}


def _gap(value, low, high, reference=0.5):
    return Score(value=value, reference=reference, gap=(low + high) / 2, gap_low=low, gap_high=high)


def _checks(scores, level="b", floors=None, by_class=True):
    standard = Standard(level, floors or Floors(), SETTINGS, 0.99)
    found = checks_against_floor(scores, standard, by_class=by_class)
    return {c.key: c for c in found}


def test_no_difference_anywhere_is_alike_and_the_level_comes_first():
    checks = _checks(_scores())
    verdict = conclude("b", "decay", tuple(checks.values()))
    assert {c.outcome for c in checks.values()} == {"alike"}
    assert (verdict.outcome, verdict.useful, verdict.answer) == ("alike", "alike", "no difference found")
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
        ("confidence", "forget_shift", -0.5, -0.46, "over"),
        ("probe", "probe_recall", 0.05, 0.1, "left"),
        ("probe-few", "probe_recall_few", 0.2, 0.4, "left"),
        ("separation", "separation", 0.7, 0.9, "left"),
    ],
)
def test_a_gap_beyond_the_tolerance_differs_on_its_side(key, measure, low, high, direction):
    check = _checks(_scores(**{measure: _gap(0.5, low, high, 1.0)}))[key]
    assert (check.outcome, check.direction) == ("differs", direction)
    assert conclude("b", "x", [check]).outcome == ("not assessed" if direction == "better" else "differs")


def test_a_gap_whose_interval_reaches_into_the_tolerance_does_not_differ():
    assert _checks(_scores(forget_accuracy=_gap(0.5, 0.01, 0.5)))["forget"].outcome == "alike"
    assert _checks(_scores(separation=_gap(1.5, 0.1, 0.9, 1.3)))["separation"].outcome == "alike"


def test_missing_is_never_a_pass():
    for measure in ("rmia_auc", "probe_recall", "ain", "population_auc", "forget_accuracy", "exposure_ratio"):
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
    def relearn(steps, ain, bound="", reached=True):
        own = Score(value=steps, reference=70.0, bound="" if reached else "at least")
        changed = {"relearn_steps": own, "ain": Score(value=ain, why="capped", bound=bound)}
        return _checks(_scores(**changed))["relearn"]

    assert relearn(10, 0.14).direction == "left"
    assert relearn(200, 2.9).direction == "over"
    assert relearn(60, 0.86).outcome == "alike"
    assert relearn(100, 1.4, "at least", reached=False).outcome == "not assessed"
    assert relearn(150, 2.1, "at least", reached=False).direction == "over"
    assert relearn(30, 0.3, "at most").direction == "left"
    assert relearn(90, 0.9, "at most").outcome == "not assessed"
    assert relearn(70, 1.0, reached=False).outcome == "alike"


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
    assert "less useful than the original (asked: test)" in conclude("a", "x", lost).headline


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
    kinds = {"forget": "left", "relearn": "over", "test": "worse"}
    checks = [
        Check(key=key, question="?", outcome="differs", finding="", measure="tow", direction=d)
        for key, d in kinds.items()
    ]
    headline = conclude("b", "x", checks).headline
    for words in (
        "questions disagree on the side: knowledge of the forget data is left (asked: forget)",
        "(over-unlearned), which betrays it too (asked: relearn)",
        "It is less useful than a retrained model (asked: test).",
    ):
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
    "single": ("exposure", "over", "left"),
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
    elif key == "single":
        floors = Floors({measure: [3.0, -2.5, 2.8, -3.2]})
        sides = {v: {k: Score(value=v) for k in (measure, "exposure_ratio")} for v in (-40.0, 1.0, 40.0)}
    else:
        floors = Floors({measure: [0.50, 0.51, 0.49, 0.50]})
        sides = {value: {measure: _gap(value, value - 0.51, value - 0.49)} for value in (0.02, 0.5, 0.98)}
    found = [_checks(_scores(**changed), level, floors)[key] for changed in sides.values()]
    assert [c.outcome for c in found] == ["differs", "alike", "differs"]
    assert [c.direction for c in found] == [below, "", above]


def test_the_questions_asked_are_these():
    assert set(_checks(_scores())) == set(SIDES)
    assert {c.measure for c in _checks(_scores()).values()} == {m for m, _, _ in SIDES.values()} - {
        "exposure",
        "relearn_steps",
    } | {"exposure_ratio", "ain"}
    of_items = set(SIDES) - {"forget-test", "probe", "probe-few", "separation"}
    assert set(_checks(_scores(), by_class=False)) == of_items


def test_a_finding_says_the_value_what_was_expected_and_what_would_differ():
    found = _checks(_scores(forget_accuracy=_gap(0.4, 0.3, 0.5, 0.1), separation=_gap(2.5, 1.0, 1.4, 1.3)))
    # A gap of -0.1 to 0.1 is the draw of records, 0.02 the tolerance: nothing can lie below, 0.12 is the most.
    assert found["forget"].finding == (
        "40.0 %, expected 0.0 %; a difference would show above 12.0 %; knowledge of the forget data is left"
    )
    assert (found["forget"].seen_below, found["forget"].seen_above) == (None, pytest.approx(0.12))
    assert found["separation"].finding.startswith(
        "2.50, expected 1.30; a difference would show below 0.32 or above 2.28; knowledge"
    )
    assert found["test"].finding == "95.0 %, expected 95.0 %; a difference would show below 92.0 % or above 98.0 %"
    assert found["relearn"].finding == (
        "70 steps against the retrained model's 70 (a factor of 2 passes as noise); a difference would show below "
        "34 steps or above 143 steps"
    )
    assert found["single"].finding == (
        "+1.1 (record 5; 100 unseen records); a difference would show below -1.9 or above +1.9"
    )


def test_a_finding_of_level_c_says_where_one_more_retrained_model_would_be():
    floors = Floors({"forget_accuracy": [0.45, 0.55, 0.5, 0.5], "relearn_steps": [68.0, 70.0, 71.0, 69.0]})
    found = _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c", floors)
    # Of arcsin sqrt: mean pi / 4, deviation 0.041; t of 3 degrees at 99 % is 5.84: sin^2(pi / 4 -+ 0.267).
    assert found["forget"].finding == (
        "75.0 %, expected 50.0 %, one more retrained model 24.5 % to 75.5 %; a difference would show below 24.5 % or "
        "above 75.5 %"
    )
    # Mean 69.5, standard deviation 1.29: 69.5 -+ 8.43, rounded outwards.
    steps = "70 steps against the retrained model's 70, further retrained models 61 to 78"
    assert found["relearn"].finding == f"{steps}; a difference would show below 61 steps or above 78 steps"
    unknown = _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c", Floors({"relearn_steps": [70.0]}))
    assert unknown["forget"].finding == "75.0 %, expected 50.0 %; its spread over retrained models is not known"
    assert unknown["single"].finding == "its spread over retrained models is not known"
    assert unknown["relearn"].finding.endswith(
        "steps against the retrained model's 70; its spread over retrained models is not known"
    )
    assert unknown["relearn"].outcome == "not assessed"


def test_a_band_over_everything_that_a_score_can_be_tells_nothing():
    floors = Floors({"forget_accuracy": [0.4, 0.6], "test_accuracy": [0.1, 0.9]})
    found = _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c", floors)
    for key in ("forget", "test"):
        assert (found[key].outcome, found[key].told) == ("not assessed", False)
        assert found[key].finding.startswith("cannot tell here: ")
    # F is at worst 0: a floor that reaches there leaves no room for a difference.
    worst = Score(value=0.0, floor=0.5, floor_low=0.0, floor_high=1.0)
    assert _checks(_scores(quality=worst))["quality"].outcome == "not assessed"


def test_one_interval_holds_the_spread_of_models_and_the_draw_of_records():
    """Outside of the retrained models' band, but within what the draw of records explains, is no difference."""
    floors = Floors({"population_auc": [0.55, 0.56, 0.57, 0.56]})
    found = _checks(_scores(population_auc=_gap(0.41, -0.31, 0.01)), "c", floors)["threshold"]
    assert (found.outcome, found.seen_below) == ("alike", pytest.approx(0.40))
    assert found.finding.endswith("a difference would show below 40.0 % or above 72.0 %")


def test_a_question_that_does_not_tell_the_original_is_not_alike():
    control = checks_against_floor(
        _scores(separation=_gap(2.5, 1.0, 1.4, 1.3)), Standard("b", Floors(), SETTINGS, 0.99), by_class=True
    )
    standard = Standard("b", Floors(), SETTINGS, 0.99)
    found = {c.key: c for c in checks_against_floor(_scores(), standard, by_class=True, control=control)}
    assert (found["separation"].outcome, found["separation"].told) == ("alike", True)
    assert {found[k].outcome for k in ("test", "retain")} == {"alike"}
    rest = [c for k, c in found.items() if k not in {"test", "retain", "separation"}]
    assert {(c.outcome, c.told) for c in rest} == {("not assessed", False)}
    assert all(c.finding.startswith("cannot tell here: the original passes as well; ") for c in rest)
    verdict = conclude("b", "x", tuple(found.values()), control)
    assert (verdict.outcome, verdict.answer) == ("alike", "no difference found")
    assert "by 1 question that can tell" in verdict.headline
    # What differs differs, whether or not the original does.
    left = _scores(forget_accuracy=_gap(0.4, 0.3, 0.5, 0.1))
    found = {c.key: c for c in checks_against_floor(left, standard, by_class=True, control=control)}
    assert (found["forget"].outcome, found["forget"].told) == ("differs", False)


def test_what_lies_exactly_on_the_border_passes():
    alike = {
        c.outcome
        for low, high in ((0.02, 0.5), (-0.5, -0.02))
        for c in [_checks(_scores(forget_accuracy=_gap(0.5, low, high)))["forget"]]
    }
    assert alike == {"alike"}
    floors = Floors({"relearn_steps": [68.0, 70.0, 71.0, 69.0], "forget_accuracy": [0.45, 0.55, 0.5, 0.5]})
    edges = tuple(floors.band("forget_accuracy", 0.99))[1:]
    for steps in (61.0, 78.0):
        found = _checks(_scores(relearn_steps=Score(value=steps, reference=70.0)), "c", floors)["relearn"]
        assert found.outcome == "alike"
    for value, low, high in ((edges[1], 0.2, 0.3), (edges[0], -0.3, -0.2)):
        assert _checks(_scores(forget_accuracy=_gap(value, low, high)), "c", floors)["forget"].outcome == "alike"
    # (3 + 3) / (9 + 3) is one half, (21 + 3) / (9 + 3) is two.
    for steps in (3.0, 21.0):
        assert _checks(_scores(relearn_steps=Score(value=steps, reference=9.0)))["relearn"].outcome == "alike"


@pytest.mark.parametrize("sign", [1, -1])
def test_level_c_needs_both_the_band_and_the_gap(sign):
    floors = Floors({"forget_accuracy": [0.50, 0.52, 0.48, 0.51]})

    def outcome(away, near, far):
        low, high = sorted((sign * near, sign * far))
        return _checks(_scores(forget_accuracy=_gap(0.5 + sign * away, low, high)), "c", floors)["forget"].outcome

    assert outcome(0.3, 0.2, 0.4) == "differs"
    assert outcome(0.01, 0.005, 0.015) == "alike"  # a gap that is no chance, but within the spread of retrained models
    assert outcome(0.3, 0.0, 0.6) == "alike"  # outside of it, but perhaps by the draw of records
    assert outcome(0.3, -0.1, 0.6) == "alike"


@pytest.mark.parametrize("end", ["gap", "gap_low", "gap_high"])
def test_a_gap_without_an_end_is_not_assessed(end):
    found = _checks(_scores(forget_accuracy=_gap(0.5, 0.3, 0.5).model_copy(update={end: None})))["forget"]
    assert (found.outcome, found.finding) == ("not assessed", "there is nothing to compare it with")


def test_relearning_without_the_steps_of_either_model_is_not_assessed():
    reason = Score.missing("left out")
    for steps, ain, finding in (
        (Score(value=70.0), Score.missing("no retrained model"), "no retrained model"),
        (reason, Score(value=1.0), "left out"),
    ):
        found = _checks(_scores(relearn_steps=steps, ain=ain))["relearn"]
        assert (found.outcome, found.finding) == ("not assessed", finding)
    capped = {
        "relearn_steps": Score(value=100, reference=100.0, bound="at least"),
        "ain": Score(value=1.0, why="neither reached it"),
    }
    assert _checks(_scores(**capped))["relearn"].finding == (
        "neither it nor the retrained model relearned within 100 steps"
    )


ENSEMBLES = {
    "lira_accuracy": "Can an attacker with many models tell unlearned from retrained, record by record (U-LiRA)?",
    "thirds_accuracy": "Can it tell unlearned from never seen records, with shadow models of its own (RULI)?",
    "quality": "Does any attack per record tell them apart (forgetting quality F)?",
    "klom_forget": "Are the margins distributed as those of retrained models (KLoM)?",
}


@pytest.mark.parametrize("key", ENSEMBLES)
def test_scores_of_a_method_are_asked_about_where_they_were_measured(key):
    def check(value, **changed):
        score = Score(value=value, floor=0.5, floor_low=0.4, floor_high=0.6).model_copy(update=changed)
        return _checks(_scores(**{key: score}))[key.replace("_", "-")]

    unlike = 0.3 if key == "quality" else 0.7
    found = check(unlike)
    assert (found.outcome, found.direction, found.question) == ("differs", "unlike", ENSEMBLES[key])
    assert found.measure == key
    side = "below 0.400" if key == "quality" else "above 0.600"
    assert found.finding == (
        f"{unlike:.3f}, retrained against retrained 0.400 to 0.600; a difference would show {side}; it is not what "
        "retraining gives"
    )
    for value in (0.4, 0.6, 1 - unlike):
        passed = check(value)
        assert (passed.outcome, passed.direction) == ("alike", "")
    for end in ("floor_low", "floor_high"):
        unknown = check(unlike, **{end: None})
        assert (unknown.outcome, unknown.finding) == ("not assessed", "the floor is not known")
    assert check(unlike, floor_low=None, why="two models").finding == "two models"
    assert key.replace("_", "-") not in _checks(_scores())


def test_level_a_asks_each_question_of_what_it_knows():
    known = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = _scores(
        **{k: Score(**known, original=0.99) for k in ("test_accuracy", "retain_accuracy", "rmia_auc")},
        **{k: Score(**known) for k in ("forget_accuracy", "test_forget_accuracy")},
        probe_recall=Score.missing("no layer"),
    )
    found = {c.key: c for c in checks_against_original(scores, SETTINGS, by_class=True)}
    assert set(found) == set(SIDES)
    for key in ("test", "retain"):
        assert (found[key].outcome, found[key].direction) == ("differs", "worse")
        assert found[key].finding == "50.0 % against the original's 99.0 %; usefulness was lost"
    for key in ("forget", "forget-test"):
        assert (found[key].outcome, found[key].direction) == ("differs", "left")
        assert found[key].finding.startswith("50.0 %; a model that never saw the classes never answers them; knowledge")
    assert found["record"].finding == "only a retrained model shows what is normal"
    assert found["probe"].finding == "no layer"
    assert {found[k].outcome for k in set(found) - {"test", "retain", "forget", "forget-test"}} == {"not assessed"}
    # Of items, a retrained model may well answer the records: nothing is known about them.
    of_items = {c.key: c for c in checks_against_original(scores, SETTINGS, by_class=False)}
    assert set(of_items) == set(SIDES) - {"forget-test", "probe", "probe-few", "separation"}
    assert of_items["forget"].outcome == "not assessed"


def test_level_a_passes_what_lies_exactly_on_the_border():
    scores = _scores(
        test_accuracy=Score(value=0.5, low=0.4, high=0.75 - 0.02, original=0.75),
        retain_accuracy=Score(value=0.5, original=0.99),
        forget_accuracy=Score(value=0.5, low=0.02, high=0.6),
        test_forget_accuracy=Score(value=0.5),
    )
    found = {c.key: c for c in checks_against_original(scores, SETTINGS, by_class=True)}
    for key in ("test", "retain", "forget", "forget-test"):
        assert (found[key].outcome, found[key].direction) == ("alike", "")


def _made(outcome, direction="", key="k"):
    return Check(key=key, question="Is it?", outcome=outcome, finding="found so", measure="tow", direction=direction)


def test_headlines_and_sentences_word_by_word():
    b = "Level (b), compared with one retrained model: how much retrained models differ among themselves is not known. "
    a = "Level (a), no retrained model to compare with: sanity checks only. "
    alike, missing, works = _made("alike"), _made("not assessed", key="m"), _made("alike", key="test")
    found = conclude("b", "x", [_made("differs", "over"), _made("differs", "unlike", "l"), works], [alike])
    assert found.headline == b + (
        "'x' differs from a model retrained without the data in what it knows: the forget data is rejected more than "
        "by a model that never saw it (over-unlearned), which betrays it too (asked: k); it is not what retraining "
        "gives (asked: l). It is as useful as a retrained model, as far as could be seen."
    )
    assert found.sentences == (
        "Is it? found so.",
        "Is it? found so.",
        "No difference in: test.",
        "To try next: a gentler setting: the aim is how a retrained model answers, not as wrong as possible.",
    )
    found = conclude("a", "x", [_made("differs", "left"), alike])
    assert found.headline == a + (
        "'x' differs from what it should be in what it knows: knowledge of the forget data is left (asked: k)."
    )
    found = conclude("a", "x", [alike, missing])
    assert found.headline == a + (
        "Whether 'x' has forgotten was not assessed; the sanity checks found no knowledge left."
    )
    assert found.sentences == (
        "Not assessed: Is it? (found so)",
        "To try next: a retrained model to compare with (--retrain).",
    )
    found = conclude("b", "x", [alike, _made("alike", key="l"), missing], [_made("differs", "left")])
    assert found.headline == b + (
        "No difference was found between 'x' and a model retrained without the data in what was measured, but 1 of 3 "
        "questions was not assessed."
    )
    found = conclude("b", "x", [alike], [alike])
    assert found.headline == b + (
        "Nothing about these records could be told from the original: no question tells 'x' from a model retrained "
        "without the data, but none tells the original from it either."
    )
    assert (found.control, found.outcome, found.answer) == (False, "not assessed", "could not tell")
    found = conclude("b", "x", [alike, works], [_made("differs", "left"), _made("differs", "left", "l"), missing])
    assert found.headline == b + (
        "No difference was found between 'x' and a model retrained without the data, by 1 question that can tell. It "
        "is as useful as a retrained model, as far as could be seen."
    )
    assert found.sentences == (
        "No difference in: k, test.",
        "The same questions tell the original from the retrained model by: k, l.",
    )
    assert found.control is True


def test_usefulness_is_a_verdict_of_its_own():
    forgot, control = _made("alike"), [_made("differs", "left")]
    for direction, useful, outcome in (
        ("better", "more", "alike"),
        ("worse", "less", "differs"),
        ("", "alike", "alike"),
    ):
        check = _made("differs" if direction else "alike", direction, "test")
        found = conclude("b", "x", [forgot, check], control)
        assert (found.useful, found.outcome, found.answer) == (useful, outcome, "no difference found")
    assert conclude("b", "x", [forgot], control).useful == "could not tell"
    both = conclude("b", "x", [_made("differs", "left"), _made("differs", "better", "retain")], control)
    assert (both.answer, both.useful) == ("no", "more")
    assert both.headline.endswith("It is more accurate than a retrained model (asked: retain), which is no harm.")


def test_an_unchanged_model_has_not_forgotten_whatever_the_checks_say():
    for checks in ([_made("alike")], [_made("differs", "left")], [_made("not assessed")]):
        found = conclude("b", "ssd", checks, [_made("differs", "left")], unchanged=True)
        assert (found.outcome, found.answer) == ("nothing was done", "no")
        assert "Nothing was done: the weights of 'ssd' are the original's." in found.headline


def test_checks_against_no_reference_do_not_count():
    why = "not assessed: the recipe is not how the original was trained"
    found = conclude("b", "x", not_assessed([_made("differs", "left"), _made("alike", key="l")], why), unfit=why)
    assert (found.outcome, found.answer, found.useful) == ("not assessed", "could not tell", "could not tell")
    assert "Not assessed: the recipe is not how" in found.headline
    assert {(c.outcome, c.direction, c.finding) for c in found.checks} == {("not assessed", "", why)}


def test_the_single_records_that_stand_out_are_not_assessed_where_they_were_not_measured():
    changed = {"exposure": Score.missing("no spread"), "exposure_ratio": Score.missing("no record")}
    floors = Floors({"exposure": [3.0, 3.1, 2.9, 3.0]})
    for level, why in (("b", "no record"), ("c", "no spread")):
        found = _checks(_scores(**changed), level, floors)["single"]
        assert (found.key, found.outcome, found.finding) == ("single", "not assessed", why)
