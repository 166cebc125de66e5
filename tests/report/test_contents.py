import pytest

from efface.report.contents import columns, key_numbers, not_assessed


def test_strips_place_values_on_the_scale_of_shares(audit):
    for number in key_numbers(audit):
        assert number.strip.top == 1
        assert number.strip.value == pytest.approx(100 * number.score.value, abs=0.01)
        assert number.strip.reference == pytest.approx(100 * number.score.reference, abs=0.01)


def test_a_key_number_that_is_missing_gives_way_to_one_that_is_measured(audit):
    # lira_auc would come first among the attacks, but was not assessed.
    assert [n.measure.key for n in key_numbers(audit)] == [
        "test_forget_accuracy", "test_accuracy", "rmia_auc", "probe_recall",
    ]  # fmt: skip


def test_the_attack_that_found_something_is_on_the_first_screen(make_audit):
    """A card that shows a harmless attack, while another one of the verdict found a difference, would mislead."""
    base = make_audit()
    rmia, threshold = (
        base.verdict.checks[0].model_copy(update={"key": key, "measure": key, "outcome": outcome})
        for key, outcome in (("rmia_auc", "alike"), ("population_auc", "differs"))
    )
    verdict = base.verdict.model_copy(update={"checks": (rmia, threshold)})
    assert key_numbers(make_audit(verdict=verdict))[2].measure.key == "population_auc"


def test_everything_missing_is_listed_once(audit):
    titles = [t for group in not_assessed(audit).values() for t in group]
    missing = [k for k, s in audit.row(audit.candidate).scores.items() if not s.measured]
    assert len(titles) == len(missing) == 3


def test_columns_are_measured_ones(audit):
    assert all(any(row[m.key].measured for row in audit.rows) for m in columns(audit).values())
    assert [m.key for m in columns(audit).values()][:2] == ["retain_accuracy", "forget_accuracy"]
