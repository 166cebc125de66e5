"""Where a model stands to retraining for as long: better in one and not worse in the other is above, in words."""

from types import SimpleNamespace

import pytest
import torch

from efface.auditing.as_long import _outcome, standing
from efface.auditing.assess import assess
from efface.auditing.checks import Check
from efface.auditing.measures.intervals import paired_gap
from efface.auditing.rows import AS_LONG, Row, Rows
from efface.auditing.settings import AuditSettings
from efface.report.console import rows_table
from efface.report.markdown import markdown
from efface.running.run import Run
from tests.world import RECIPE, masked, rows_of, trained

SETTINGS = AuditSettings(few_draws=2, resamples=100, relearn_cap=5, probe_per_class=20)


@pytest.mark.parametrize(
    ("useful", "forgot", "outcome"),
    [
        (1, 0, "above"),
        (0, 1, "above"),
        (1, 1, "above"),
        (-1, 0, "below"),
        (0, -1, "below"),
        (0, 0, "level"),
        (1, -1, "mixed"),
        (-1, 1, "mixed"),
    ],
)
def test_where_it_stands(useful, forgot, outcome):
    assert _outcome(useful, forgot) == outcome


def audited(world, candidate, short):
    rows = rows_of({k: world.models[k] for k in ("original", "retrained")} | {"method": candidate}, candidate="method")
    table = (*rows.table[:2], Row(AS_LONG, "baseline", short, seconds=0.25), rows.table[2])
    return assess(Rows(table), world.split, Run(), settings=SETTINGS)


def test_a_retrained_model_is_above_a_hardly_trained_one(world):
    short = trained(world.split.retain, 7, RECIPE.but(epochs=0.3))
    found = audited(world, world.retrained(1)[0], short)
    assert found.as_long.outcome == "above"
    assert found.as_long.seconds == 0.25
    assert 0 < found.as_long.kept_low < found.as_long.kept_gap < found.as_long.kept_high
    own, other = (found.row(name)["test_accuracy"].value for name in ("method", AS_LONG))
    assert found.as_long.kept_gap == pytest.approx(own - other)
    assert "0.25 s" in found.as_long.text
    assert "This model is above that row." in found.as_long.text
    assert "This model is above that row" in markdown(found)
    assert AS_LONG in [str(c) for c in rows_table(found).columns[0].cells]


def test_a_masked_original_is_below_a_model_retrained_for_as_long(world):
    found = audited(world, masked(world.models["original"]), world.retrained(1)[0])
    assert found.as_long.differs > found.as_long.differs_there
    assert found.as_long.outcome == "below"
    assert "gives more" in found.as_long.text


def test_without_the_row_or_a_retrained_model_nothing_is_said(world):
    rows = rows_of(world.models, candidate="logit mask")
    assert assess(rows, world.split, Run(), settings=SETTINGS).as_long is None
    alone = {k: v for k, v in world.models.items() if k != "retrained"}
    table = rows_of(alone, candidate="logit mask").table
    short = Row(AS_LONG, "baseline", world.models["fine-tuned"])
    assert assess(Rows((*table, short)), world.split, Run(), settings=SETTINGS).as_long is None


# --- by hand --------------------------------------------------------------------------------------------------------


def stands(ours, theirs, checks, there, *, seconds=0.25, epochs=1.5, confidence=0.95):
    """Where a model stands that gets `ours` of 100 test records right, beside one that gets `theirs` right."""

    def answers(right):
        return SimpleNamespace(correct=lambda part: torch.arange(100) < right, accuracy=lambda part: right / 100)

    record = None if epochs is None else SimpleNamespace(trainings=(SimpleNamespace(epochs=epochs),))
    row = SimpleNamespace(name=AS_LONG, seconds=seconds, record=record)
    every = SimpleNamespace(candidate=answers(ours), table={AS_LONG: answers(theirs)})

    def made(outcomes):
        return [
            Check(key=k, question="?", outcome=o, finding="", measure="tow")
            for k, o in {"test": "differs", **outcomes}.items()
        ]

    return standing({AS_LONG: row}, every, made(checks), made(there), confidence)


def test_standing_word_by_word():
    found = stands(
        90,
        60,
        {"forget": "differs", "probe": "alike", "relearn": "not assessed", "lean": "alike"},
        {"forget": "differs", "probe": "differs", "relearn": "differs"},
    )
    gap = paired_gap(torch.arange(100) < 90, torch.arange(100) < 60, 0.95)
    # Of both: forget and probe; usefulness is no question about forgetting.
    assert (found.asked, found.differs, found.differs_there, found.outcome) == (2, 1, 2, "above")
    assert (found.kept_gap, found.kept_low, found.kept_high) == tuple(gap)
    assert (found.row, found.seconds) == (AS_LONG, 0.25)
    assert found.text == (
        "Retraining for as long as forgetting took (0.25 s, 1.5 epochs) keeps 60.0% of test accuracy and this model "
        f"90.0%: better (+30.0 points, {100 * gap.low:+.1f} to {100 * gap.high:+.1f}). Of 2 questions about forgetting "
        "that both answer, 2 found a difference there and 1 here: better. This model is above that row."
    )
    wider = stands(90, 60, {}, {}, confidence=0.999)
    assert wider.kept_low < found.kept_low


@pytest.mark.parametrize(
    ("ours", "theirs", "here", "there", "outcome", "words"),
    [
        (60, 90, "alike", "alike", "below", ("worse (-30.0", "here: no different.")),
        (60, 90, "alike", "differs", "mixed", ("worse (-30.0", "here: better.")),
        (90, 90, "differs", "alike", "below", ("no different (+0.0", "here: worse.")),
        (90, 89, "alike", "alike", "level", ("no different (+1.0", "here: no different.")),
        (90, 90, "not assessed", "differs", "level", ("no different", "0 found a", "there and 0 here: no different.")),
        (90, 90, "differs", "not assessed", "level", ("no different", "0 found a", "there and 0 here: no different.")),
    ],
)
def test_better_in_one_and_not_worse_in_the_other_is_above(ours, theirs, here, there, outcome, words):
    found = stands(ours, theirs, {"forget": here}, {"forget": there})
    assert found.outcome == outcome
    assert all(word in found.text for word in words)


def test_what_is_not_known_of_the_time_is_said():
    assert "forgetting took (time not known) keeps" in stands(1, 1, {}, {}, seconds=None, epochs=None).text
    assert "forgetting took (0.123 s) keeps" in stands(1, 1, {}, {}, seconds=0.12345, epochs=None).text
    assert "(0.25 s, 0.123 epochs)" in stands(1, 1, {}, {}, epochs=0.12345).text
