"""The judge asks the audit's own questions, and leaves others unread."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from pydantic import BaseModel

from efface.artifact.case import Case
from efface.auditing.measures.intervals import prediction_interval
from efface.errors import InputError
from efface.searching import judge as judging
from efface.searching.judge import Judge, Looks, Standards, bands_of, described
from tests.world import RECIPE


def test_it_does_not_ask_about_canaries(world, monkeypatch):
    given = {}

    def assess(*_, settings):
        given.update(settings.model_dump())
        return SimpleNamespace(verdict=SimpleNamespace(unfit="", checks=()))

    monkeypatch.setattr(judging, "assess", assess)
    case = Case.of(
        world.models["original"], world.split.data, world.split.request, device="cpu", recipe=RECIPE, validation=0.1
    )
    assert Judge(case, [world.models["retrained"]])._differences(world.models["logit mask"]) == {}
    assert given["canaries"] is False
    assert given["sealed"] is False


# --- by hand --------------------------------------------------------------------------------------------------------

KEPT, GONE = "validation_retain", "validation_forget"


def model(kept=0.9, gone=0.0, **seen):
    """A model is what it reaches."""
    return SimpleNamespace(accuracy={KEPT: kept, GONE: gone, "forget": gone}, seen=seen)


@pytest.fixture
def judge(monkeypatch):
    """Make a judge of planted models; `classes` empty judges items."""
    monkeypatch.setattr(judging, "accuracy_of", lambda model, part: model.accuracy[part])
    monkeypatch.setattr(judging, "held_out_as_test", lambda split: "unseen")
    monkeypatch.setattr(Looks, "of", classmethod(lambda cls, case: SimpleNamespace(at=lambda model: model.seen)))

    def make(references=(), *, classes=(3,), before=0.9, **standards):
        split = SimpleNamespace(validation_retain=KEPT, validation_forget=GONE, forget="forget", forget_classes=classes)
        run = SimpleNamespace(copied=lambda model: model)
        case = SimpleNamespace(split=split, run=run, original=SimpleNamespace(model=model(before)))
        made = Judge(case, references, Standards(**standards) if standards else None)
        monkeypatch.setattr(made, "_differences", lambda _: {})
        return made

    return make


def judged(judge, made, settings=None):
    record = SimpleNamespace(seconds={"forget": 1.5}, method="ssd", weights_after="abc")
    return judge(SimpleNamespace(model=made, record=record), settings or {})


def test_without_references_use_may_fall_a_little_and_the_class_must_be_gone(judge):
    trial = judged(judge(), model(0.9, 0.03), {"alpha": 1})
    assert (trial.method, trial.settings, trial.kept, trial.forgotten) == ("ssd", {"alpha": 1}, 0.9, 0.03)
    assert (trial.probe, trial.excess, trial.differs, trial.side, trial.seconds) == (None, 0, (), "", 1.5)
    assert 1.5 < trial.spent < 60
    assert trial.weights == "abc"
    assert judged(judge(), model(0.89, 0.05)).excess == 0
    for made, excess, side in (
        (model(0.78, 0.0), 0.10, "worse"),
        (model(0.9, 0.25), 0.20, "left"),
        (model(0.78, 0.25), 0.30, "several"),
        (model(1.0, 0.25), 0.20, "left"),  # better use makes up for nothing
    ):
        trial = judged(judge(), made)
        assert (trial.excess, trial.side) == (pytest.approx(excess), side)
    assert judged(judge(kept=0.5, forgotten=0.3), model(0.4, 0.3)).excess == pytest.approx(0)


def test_items_are_to_be_answered_as_a_reference_or_unseen_records_are(judge):
    for references, gone, excess, side in (
        ((), 0.95, 0, ""),
        ((), 0.7, 0.15, "over"),
        ((), 1.0, 0.05, "left"),
        ((model(0.9, 0.5),), 0.9, 0.35, "left"),
        ((model(0.9, 0.5),), 0.2, 0.25, "over"),
    ):
        trial = judged(judge(references, classes=()), model(0.9, gone))
        assert (trial.excess, trial.side) == (pytest.approx(excess), side)
    assert judge([model()], classes=()).looks is None


def test_fewer_than_four_references_allow_what_the_first_reaches(judge):
    references = [model(0.9, 0.2, probe=0.5), model(0.9, 0.9, probe=0.9)]
    assert judged(judge(references), model(0.9, 0.25, probe=0.6)).excess == pytest.approx(0)
    assert judged(judge(references), model(0.9, 0.35, probe=0.6)).excess == pytest.approx(0.1)
    trial = judged(judge(references), model(0.9, 0.0, probe=0.75))
    assert (trial.excess, trial.side, trial.probe) == (pytest.approx(0.15), "left", 0.75)
    assert judged(judge(references), model(0.9, 0.35, probe=0.75)).excess == pytest.approx(0.25)
    assert judged(judge(references, probe=0.3), model(0.9, 0.0, probe=0.75)).excess == pytest.approx(0)


SEEN = [{"probe": p, "separation": 10 * p, "training": 0.5 + p / 2} for p in (0.4, 0.5, 0.6, 0.5)]


@pytest.mark.parametrize(
    ("key", "below", "above"),
    [("probe", "over", "left"), ("separation", "over", "left"), ("training", "worse", "")],
)
def test_with_four_references_each_look_has_a_band(key, below, above, judge):
    made = judge([model(0.9, 0.0, **seen) for seen in SEEN])
    low, high = made.bands[key]
    assert (low, high) == pytest.approx(prediction_interval(torch.tensor([s[key] for s in SEEN]), 0.99)[1:])
    inside = {k: sum(s[k] for s in SEEN) / 4 for k in SEEN[0]}
    assert judged(made, model(0.9, 0.0, **inside)).excess == 0
    # A miss by half a band counts as 0.1.
    for value, side in ((low - (high - low) / 2, below), (high + (high - low) / 2, above)):
        trial = judged(made, model(0.9, 0.0, **inside | {key: value}))
        assert trial.side == side
        assert trial.excess == pytest.approx(0.1 if side else 0)
    left_out = {k: v for k, v in inside.items() if k != key}
    assert judged(made, model(0.9, 0.0, **left_out)).excess == 0


def test_misses_on_one_side_add_up_and_what_is_met_makes_up_for_none(judge):
    made = judge([model(0.9, 0.0, **seen) for seen in SEEN])
    width = {k: high - low for k, (low, high) in made.bands.items()}
    beyond = {k: made.bands[k][1] + width[k] for k in ("probe", "separation")}
    trial = judged(made, model(0.9, 0.0, training=0.75, **beyond))
    assert (trial.excess, trial.side) == (pytest.approx(0.4), "left")
    trial = judged(made, model(0.9, 0.15, training=0.75, **beyond))
    assert trial.excess == pytest.approx(0.5)
    beyond["separation"] = made.bands["separation"][0] - width["separation"]
    trial = judged(made, model(0.9, 0.0, training=0.75, **beyond))
    assert (trial.excess, trial.side) == (pytest.approx(0.4), "several")


def test_what_only_some_references_have_gives_no_band():
    bands = bands_of([*SEEN, {"probe": 0.5, "training": 0.75}], 0.99)
    assert set(bands) == {"probe", "training"}


@pytest.mark.parametrize(
    ("found", "side"), [({}, ""), ({"forget": "over"}, "over"), ({"forget": "over", "probe": "left"}, "several")]
)
def test_what_meets_the_standards_is_asked_the_audits_questions(found, side, judge, monkeypatch):
    made = judge([model(probe=0.5)])
    monkeypatch.setattr(made, "_differences", lambda _: found)
    trial = judged(made, model(0.9, 0.0, probe=0.0))
    assert (trial.excess, trial.differs, trial.side) == (len(found), tuple(found), side)
    monkeypatch.setattr(made, "_differences", lambda _: pytest.fail("asked"))
    assert judged(made, model(0.5, 0.0, probe=0.0)).side == "worse"  # is out already
    without = judge()
    monkeypatch.setattr(without, "_differences", lambda _: pytest.fail("asked"))
    assert judged(without, model()).passed


def test_it_says_what_it_judges_by(judge):
    assert judge().basis == "held-out data alone (no reference: features and relearning are not looked at)"
    assert judge([model(probe=0.5)]).basis == "held-out data and 1 retrained model"
    assert judge([model(probe=0.5)] * 2).basis == "held-out data and 2 retrained models"


def test_what_differs_is_given_with_its_side_and_an_unfit_reference_is_refused(world, monkeypatch):
    checks = [SimpleNamespace(key=k, direction=d, outcome=o) for k, d, o in (
        ("forget", "over", "differs"), ("probe", "", "alike"), ("single", "left", "not assessed"),
    )]  # fmt: skip
    asked = []

    def assess(rows, split, run, *, settings):
        asked.append((rows, split))
        return SimpleNamespace(verdict=SimpleNamespace(unfit=unfit, checks=checks))

    monkeypatch.setattr(judging, "assess", assess)
    case = Case.of(
        world.models["original"], world.split.data, world.split.request, device="cpu", recipe=RECIPE, validation=0.1
    )
    made, unfit = Judge(case, [world.models["retrained"]] * 3), ""
    assert made._differences(world.models["logit mask"]) == {"forget": "over"}
    ((rows, split),) = asked
    assert [(r.name, r.role) for r in rows] == [
        ("original", "original"), ("retrained 0", "retrained"), ("candidate", "candidate"),
    ]  # fmt: skip
    assert [(r.name, r.role) for r in rows.further] == [("retrained 1", "retrained"), ("retrained 2", "retrained")]
    assert split is made.unseen
    unfit = "it knows the class"
    with pytest.raises(InputError, match="it knows the class"):
        made._differences(world.models["logit mask"])


def test_notes_are_added_to_a_record():
    record = Stub(notes=("a",), failures=("x",))
    made = described(Holder(record), ["b", "c"], ["b"])
    assert (made.record.notes, made.record.failures) == (("a", "b", "c"), ("x", "b"))
    assert described(Holder(record), ["b"]).record.failures == ("x",)


class Stub(BaseModel):
    notes: tuple[str, ...]
    failures: tuple[str, ...]


@dataclasses.dataclass
class Holder:
    record: Stub
