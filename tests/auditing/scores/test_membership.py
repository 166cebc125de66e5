"""Attacks from margins written down by hand: what is compared with what, at which confidence, and what is said."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from efface.auditing.measures.intervals import Interval, bootstrap_counts, percentiles, wilson
from efface.auditing.measures.logistic_attack import logistic_attack
from efface.auditing.measures.nomus import nomus
from efface.auditing.measures.roc import attack_gap, auc, auc_draws, auc_over_models
from efface.auditing.scores.membership import membership_scores, rmia_records
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, scored, with_gap
from efface.auditing.settings import AuditSettings
from tests.auditing.scores.tiny import answers, records

TRAIN, TEST = [0, 1, 2] * 8, [0, 1, 2, 2, 2] * 3


@pytest.fixture(scope="module")
def drawn():
    return records(TRAIN, TEST, classes=[2], settings=AuditSettings(confidence=0.9))


def planted(drawn, seed, forget=0.0, held_out=0.0):
    """Answers whose margins are drawn around two means."""
    g, own = torch.Generator().manual_seed(seed), answers(drawn, f"model {seed}")
    sizes = {"forget": len(own.labels["forget"]), "held_out": len(own.labels["held_out"])}
    means = {"forget": forget, "held_out": held_out}
    margins = {k: means[k] + torch.randn(n, generator=g, dtype=torch.float64) for k, n in sizes.items()}
    return dataclasses.replace(own, _margins=margins)


def area(pair, drawn, resamples):
    """AUC with its interval, and its gap to one half."""
    draws = auc_draws(*pair, drawn.run.generator("audit/auc"), resamples)
    score = scored(percentiles(auc(*pair), draws, 0.9))
    wide = percentiles(auc(*pair), draws, drawn.simultaneous_confidence)
    return with_gap(score, Interval(*(x - 0.5 for x in wide)))


def beside(pair, theirs, drawn, resamples):
    """The same with its gap to another pair's."""
    gap = attack_gap(
        pair,
        theirs,
        drawn.run.generator("audit/auc gap"),
        resamples=resamples,
        confidence=drawn.simultaneous_confidence,
    )
    return with_gap(area(pair, drawn, resamples), gap)


def test_the_shift_compares_the_watched_margins_with_all_retrained_models(drawn):
    ours, first, second = planted(drawn, 1, 1.0), planted(drawn, 2), planted(drawn, 3, 0.5)
    watched = [a.margin("forget")[drawn.watched] for a in (ours, first, second)]
    value = (auc(watched[0], watched[1]) + auc(watched[0], watched[2])) / 2
    found = membership_scores(ours, first, [first, second], resamples=150)["forget_shift"]
    _, influence = auc_over_models(watched[0], torch.stack(watched[1:]))
    counts = torch.cat(list(bootstrap_counts(len(influence), 150, drawn.run.generator("audit/shift"))))
    draws = value + counts @ influence / len(influence)
    wide = percentiles(value, draws, drawn.simultaneous_confidence)
    assert (found.gap, found.gap_low, found.gap_high) == pytest.approx(tuple(x - 0.5 for x in wide))
    narrow = percentiles(value, draws.clamp(0, 1), 0.9)
    assert (found.value, found.low, found.high) == pytest.approx(tuple(narrow))
    bare = membership_scores(ours, first, [first, second], resamples=0)["forget_shift"]
    assert (bare.value, bare.low, bare.gap) == (pytest.approx(value), None, None)
    beside_the_other = membership_scores(first, first, [first, second], resamples=0)["forget_shift"]
    assert beside_the_other.value == pytest.approx(auc(watched[1], watched[2]))
    assert membership_scores(ours, None, [], resamples=0)["forget_shift"].why == NO_REFERENCE
    assert membership_scores(ours, ours, [ours], resamples=0)["forget_shift"].why == ITS_OWN


def test_the_shift_looks_at_the_watched_records_only(drawn):
    few = dataclasses.replace(drawn, watched=torch.tensor([0, 3]))
    ours, theirs = planted(few, 1, 1.0), planted(few, 2)
    pair = ours.margin("forget")[[0, 3]], theirs.margin("forget")[[0, 3]]
    assert membership_scores(ours, theirs, [theirs], resamples=0)["forget_shift"].value == pytest.approx(auc(*pair))


def test_one_threshold_on_matched_records_beside_the_retrained_model(drawn):
    ours, theirs = planted(drawn, 1, 1.0), planted(drawn, 2)
    found = membership_scores(ours, theirs, [theirs], resamples=150)
    assert found["population_auc"] == beside(ours.attack_margins, theirs.attack_margins, drawn, 150)
    alone = membership_scores(ours, None, [], resamples=150)
    assert alone["population_auc"] == area(ours.attack_margins, drawn, 150)


def test_the_rate_found_is_at_the_least_false_positives_that_the_records_support(drawn):
    ours = planted(drawn, 1, 1.0)
    members, others = ours.attack_margins
    hits = int((members > others.max()).sum())  # one false positive in n is 1 / n, which the next threshold down needs
    size = len(others)
    best = max(hits, int((members > others.sort(descending=True).values[1]).sum()))
    found = membership_scores(ours, None, [], resamples=0)["population_tpr"]
    why = f"at a false-positive rate of {1 / size:.2%}, the least that {size} unseen records support"
    assert found == scored(wilson(best, len(members), 0.9), why)
    lenient = dataclasses.replace(drawn, settings=AuditSettings(fpr=0.5))
    found = membership_scores(planted(lenient, 1, 1.0), None, [], resamples=0)["population_tpr"]
    assert found.why == "at a false-positive rate of 50.00%"
    assert found.value >= best / len(members)
    exact = dataclasses.replace(drawn, settings=AuditSettings(fpr=1 / size))
    found = membership_scores(planted(exact, 1, 1.0), None, [], resamples=0)["population_tpr"]
    assert found.why == f"at a false-positive rate of {1 / size:.2%}"


def test_the_attack_on_the_loss_and_nomus(drawn):
    ours = planted(drawn, 1, 1.0)
    attack = logistic_attack(*ours.attack_margins, drawn.run.number("audit/loss attack"))
    found = membership_scores(ours, None, [], resamples=0)
    assert found["loss_attack"].value == attack
    assert found["nomus"].value == nomus(ours.accuracy("test_retain"), attack)
    unseen = records(TRAIN, [2] * 6, classes=[2])
    found = membership_scores(planted(unseen, 1), None, [], resamples=0)
    assert found["nomus"].why == "no test records of kept classes"
    assert found["loss_attack"].measured


def test_rmia_asks_all_references_but_the_model_itself(drawn):
    ours, first, second = planted(drawn, 1, 1.0), planted(drawn, 2), planted(drawn, 3)
    pair = rmia_records(ours, [first, second])
    found = membership_scores(ours, None, [first, second, ours], resamples=150)
    assert found["rmia_auc"] == area(pair, drawn, 150)
    assert found["rmia_tpr"].why.startswith("at a false-positive rate")
    bare = membership_scores(ours, first, [first, second], resamples=0)["rmia_auc"]
    assert (bare.value, bare.gap, bare.why) == (auc(*pair), None, "")
    for retrained, why in (([], NO_REFERENCE), ([ours], "the only retrained model cannot be its own reference")):
        none = membership_scores(ours, None, retrained, resamples=0)
        assert none["rmia_auc"].why == none["rmia_tpr"].why == why


def test_rmias_gap_is_to_the_same_attack_on_the_retrained_model(drawn):
    ours, reference, *further = (planted(drawn, s, m) for s, m in ((1, 1.0), (2, 0.0), (3, 0.2), (4, -0.2)))
    each_other = rmia_records(ours, [reference]), rmia_records(reference, [ours])
    found = membership_scores(ours, reference, [reference], resamples=150)["rmia_auc"]
    words = "gap to the same attack on the retrained model, by each other"
    assert found == beside(*each_other, drawn, 150).model_copy(update={"why": words})
    alike = rmia_records(ours, further), rmia_records(reference, further)
    found = membership_scores(ours, reference, [reference, *further], resamples=150)["rmia_auc"]
    wanted = beside(*alike, drawn, 150)
    assert (found.gap, found.gap_low, found.gap_high) == (wanted.gap, wanted.gap_low, wanted.gap_high)
    assert found.value == auc(*rmia_records(ours, [reference, *further]))
    assert found.why.endswith("by 2 further retrained models")
    two = membership_scores(ours, reference, [reference, further[0]], resamples=150)["rmia_auc"]
    assert two.why.endswith("by the other retrained model")


def test_without_unseen_records_of_the_same_classes_there_is_no_attack():
    alone = records(TRAIN, [0, 1, 0], classes=[2])
    reference = planted(alone, 2)
    found = membership_scores(planted(alone, 1), reference, [reference], resamples=0)
    why = "fewer than two unseen records share a class with the forget data: the held-out data lacks class c"
    assert {k for k, s in found.items() if s.measured} == {"forget_shift"}
    assert {s.why for s in found.values() if not s.measured} == {why}
    one = records(TRAIN, [0, 1, 2], classes=[2])
    assert membership_scores(planted(one, 1), None, [], resamples=0)["nomus"].why.endswith("lacks enough of them")
    two = records(TRAIN, [0, 1, 2, 2], classes=[2])
    assert membership_scores(planted(two, 1), None, [], resamples=0)["population_auc"].measured
    both = records([0, 1, 2] * 2, [1, 1], items=[0, 2])
    assert membership_scores(planted(both, 1), None, [], resamples=0)["nomus"].why.endswith("lacks class a, c")
