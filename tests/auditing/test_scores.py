import dataclasses

import pytest
import torch

from efface.auditing.answers import Answers
from efface.auditing.measures.roc import auc
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores.membership import membership_scores, rmia_records
from efface.auditing.settings import AuditSettings
from efface.running.run import Run


def planted(world, records, seed, forget, held_out):
    """Answers of a model whose margins on forget and held-out records are drawn around planted means."""
    answers = Answers.of(Row(f"model {seed}", "other", world.models["original"]), records)
    g = torch.Generator().manual_seed(seed)
    margins = {
        part: torch.randn(len(answers.labels[part]), generator=g, dtype=torch.float64) + mean
        for part, mean in (("forget", forget), ("held_out", held_out))
    }
    return dataclasses.replace(answers, _margins=margins)


@pytest.fixture(scope="module")
def records(world):
    return Records.drawn(world.split, AuditSettings(), Run())


def test_what_retrained_models_show_as_well_is_not_held_against_the_candidate(world, records):
    """Held-out data of a class that is a little harder than its training data shifts the AUC of every model."""
    reference, candidate = (planted(world, records, s, -8.0, -9.5) for s in (0, 1))
    score = membership_scores(candidate, reference, [reference], resamples=200)["rmia_auc"]
    assert score.value > 0.7
    assert score.gap_low < 0 < score.gap_high
    assert score.why == "gap to the same attack on the retrained model, by each other"
    leaking = planted(world, records, 2, -5.0, -9.5)
    score = membership_scores(leaking, reference, [reference], resamples=200)["rmia_auc"]
    assert score.gap_low > 0.02


@pytest.mark.parametrize("further", [0, 3])
def test_rmia_is_judged_by_one_gap_that_changes_its_sign_with_the_models(world, records, further):
    """Where either model may be the retrained one, neither side is more likely than the other."""
    one, other = planted(world, records, 0, 0.3, 0.0), planted(world, records, 1, -0.2, 0.1)
    more = [planted(world, records, 10 + i, 0.0, 0.0) for i in range(further)]
    there = membership_scores(one, other, [other, *more], resamples=200)["rmia_auc"]
    back = membership_scores(other, one, [one, *more], resamples=200)["rmia_auc"]
    assert there.gap == pytest.approx(-back.gap)
    # The smaller of a gap to chance and a gap to bare margins is smaller than this one, on either side.
    references = more or [other]
    by = auc(*rmia_records(one, references)), auc(*rmia_records(other, more or [one]))
    assert there.gap == pytest.approx(by[0] - by[1])
    assert there.why.endswith("by 3 further retrained models" if further else "by each other")


def test_a_record_known_and_one_rejected_are_both_seen_by_rmia(world, records):
    references = [planted(world, records, s, 0.0, 0.0) for s in range(3)]
    for shift, sign in ((1.5, 1), (-1.5, -1)):
        found = membership_scores(planted(world, records, 9, shift, 0.0), references[0], references, resamples=200)
        assert min(sign * found["rmia_auc"].gap_low, sign * found["rmia_auc"].gap_high) > 0.02


def test_the_shift_of_margins_is_against_all_retrained_models(world, records):
    """One of the retrained models is unlike the others; whichever the table shows, the score is the same."""
    references = [planted(world, records, s, mean, 0.0) for s, mean in enumerate((0.0, 0.1, -0.1, 3.0))]
    candidate = planted(world, records, 9, 0.0, 0.0)
    found = [membership_scores(candidate, r, references, resamples=200)["forget_shift"] for r in references]
    assert {s.value for s in found} == {found[0].value}
    each = [auc(candidate.margin("forget")[records.watched], r.margin("forget")[records.watched]) for r in references]
    assert found[0].value == pytest.approx(sum(each) / 4)
    assert found[0].gap == pytest.approx(found[0].value - 0.5)
    assert found[0].gap_low < found[0].gap < found[0].gap_high
    odd = membership_scores(references[3], references[0], references, resamples=0)["forget_shift"]
    assert odd.value > 0.95  # beside the other three


def test_population_gap_is_to_the_retrained_model_and_two_sided(world, records):
    reference = planted(world, records, 0, 0.0, 0.0)
    for shift, sign in ((2.0, 1), (-2.0, -1)):
        score = membership_scores(planted(world, records, 3, shift, 0.0), reference, [reference], resamples=200)
        gap = score["population_auc"]
        assert min(sign * gap.gap_low, sign * gap.gap_high) > 0
        assert gap.gap == pytest.approx(
            gap.value - membership_scores(reference, None, [], resamples=0)["population_auc"].value
        )


def test_ratios_use_every_reference_and_none_twice(world, records):
    models = [planted(world, records, s, 0.0, 0.0) for s in range(3)]
    scores = membership_scores(models[0], models[0], models, resamples=0)
    members, others = rmia_records(models[0], models[1:])
    pairs = (members.unsqueeze(1) > others).double() + 0.5 * (members.unsqueeze(1) == others)
    assert scores["rmia_auc"].value == pytest.approx(float(pairs.mean()))
