"""Where a model stands to retraining for as long: better in one and not worse in the other is above, in words."""

import pytest

from efface.auditing.as_long import _outcome
from efface.auditing.assess import assess
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
