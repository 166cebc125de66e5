import math

import pytest
import torch

from efface.auditing.catalogue import MEASURES
from efface.auditing.checks import Standard, checks_against_floor, checks_against_original
from efface.auditing.floors import Floors
from efface.auditing.result import Check
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


def test_a_finding_says_the_value_what_was_expected_and_what_passes_as_noise():
    found = _checks(_scores(forget_accuracy=_gap(0.4, 0.3, 0.5, 0.1), separation=_gap(2.5, 1.0, 1.4, 1.3)))
    assert found["forget"].finding == (
        "40.0 %, expected 0.0 %; gap 30.0 points to 50.0 points, up to 2.0 points passes as noise; "
        "knowledge of the forget data is left"
    )
    assert found["separation"].finding.startswith("2.50, expected 1.30; gap 1.00 to 1.40, up to 0.26 passes as noise; ")
    assert (
        found["test"].finding
        == "95.0 %, expected 95.0 %; gap -1.0 points to 1.0 points, up to 2.0 points passes as noise"
    )
    assert found["relearn"].finding == "70 steps against the retrained model's 70 (a factor of 2 passes as noise)"


def test_a_finding_of_level_c_says_where_one_more_retrained_model_would_be():
    floors = Floors({"forget_accuracy": [0.4, 0.6], "relearn_steps": [68.0, 70.0, 71.0, 69.0]})
    found = _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c", floors)
    # Two values: mean 0.5, and a Student's interval at 99 % that reaches beyond what a share can be.
    assert found["forget"].finding == "75.0 %, expected 50.0 %, one more retrained model 0.0 % to 100.0 %"
    # Mean 69.5, standard deviation 1.29; t of 3 degrees at 99 % is 5.84: 69.5 -+ 8.43, rounded outwards.
    steps = "70 steps against the retrained model's 70, further retrained models 61 to 78"
    assert found["relearn"].finding == steps
    unknown = _checks(_scores(forget_accuracy=_gap(0.75, 0.2, 0.3)), "c", Floors({"relearn_steps": [70.0]}))
    assert unknown["forget"].finding == "75.0 %, expected 50.0 %; its spread over retrained models is not known"
    assert unknown["relearn"].finding.endswith(
        "steps against the retrained model's 70; its spread over retrained models is not known"
    )
    assert unknown["relearn"].outcome == "not assessed"


def test_what_lies_exactly_on_the_border_passes():
    alike = {
        c.outcome
        for low, high in ((0.02, 0.5), (-0.5, -0.02))
        for c in [_checks(_scores(forget_accuracy=_gap(0.5, low, high)))["forget"]]
    }
    assert alike == {"alike"}
    floors = Floors({"relearn_steps": [68.0, 70.0, 71.0, 69.0], "forget_accuracy": [0.4, 0.6]})
    for steps in (61.0, 78.0):
        found = _checks(_scores(relearn_steps=Score(value=steps, reference=70.0)), "c", floors)["relearn"]
        assert found.outcome == "alike"
    for value, low, high in ((1.0, 0.3, 0.7), (0.0, -0.7, -0.3)):
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
    assert found.finding == f"{unlike:.3f}, retrained against retrained 0.400 to 0.600; it is not what retraining gives"
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
    alike, missing = _made("alike"), _made("not assessed", key="m")
    both = [_made("differs", d) for d in ("better", "unlike", "worse", "over", "left")]
    found = conclude("b", "x", both)
    assert found.headline == b + (
        "'x' differs from a model retrained without the data: knowledge of the forget data is left; the forget data "
        "is rejected more than by a model that never saw it (over-unlearned), which betrays it too; usefulness was "
        "lost; it is not what retraining gives; it is more accurate than a retrained model, so it is not what "
        "retraining gives."
    )
    assert found.sentences == ("Is it? found so.",) * 5
    assert found.control is None
    found = conclude("a", "x", [_made("differs", "left"), alike])
    assert found.headline == a + "'x' differs from what it should be: knowledge of the forget data is left."
    assert found.sentences == ("Is it? found so.",)
    found = conclude("a", "x", [alike, missing])
    assert found.headline == a + ("Whether 'x' has forgotten was not assessed; the sanity checks found nothing wrong.")
    assert found.sentences == ("Not assessed: Is it? (found so)",)
    found = conclude("b", "x", [alike, _made("alike", key="l"), missing], [alike])
    assert found.headline == b + (
        "No difference was found between 'x' and retraining in what was measured, but 1 of 3 questions were not "
        "assessed."
    )
    assert found.sentences == ("No difference in: k, l.", "Not assessed: Is it? (found so)")
    found = conclude("b", "x", [alike], [alike])
    assert found.headline == b + (
        "No difference was found between 'x' and a model retrained without the data, but none is found for the "
        "original either: these checks cannot tell here whether anything was forgotten."
    )
    assert found.control is False
    found = conclude("b", "x", [alike], [_made("differs", "left"), _made("differs", "left", "l"), missing])
    assert found.headline == b + "No difference was found between 'x' and a model retrained without the data."
    assert found.sentences == (
        "No difference in: k.",
        "The same checks tell the original from the retrained model by: k, l.",
    )
    assert found.control is True
