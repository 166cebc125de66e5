"""Probes of features that are the inputs themselves: what each is fitted on, asked about and compared with."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from efface.auditing.measures.intervals import bootstrap_mean, paired_gap, percentiles
from efface.auditing.measures.probe import few_record_probe, kept_outputs, linear_probe
from efface.auditing.measures.separation import class_separation
from efface.auditing.scores.features import Probed, probe_scores
from efface.auditing.scores.score import Score, mean_score, scored, share_score, with_gap
from efface.auditing.settings import AuditSettings
from tests.auditing.scores.tiny import answers, records

TRAIN, TEST = [0, 1, 2] * 8, [0, 1, 2, 2, 2] * 3
SETTINGS = AuditSettings(confidence=0.9, few_draws=7, resamples=110)
MIXED = torch.tensor([[0.2, 0.9, 0.0], [0.1, 0.0, 1.0], [1.0, 0.3, 0.2]])


@pytest.fixture(scope="module")
def drawn():
    return records(TRAIN, TEST, classes=[2], settings=SETTINGS)


def test_each_probe_by_its_formula(drawn):
    model = answers(drawn, matrix=MIXED)
    found = Probed.of(model)
    (x, y), (z, labels) = (drawn.parts[p].tensors() for p in ("probe_train", "probe_test"))
    assert found.missing == {}
    assert found.few == 1
    assert torch.equal(found.hits["probe_recall"], (linear_probe(x, y, z) == labels).double())
    votes = few_record_probe(x, y, z, drawn.run.generator("audit/few records"), per_class=1, draws=7)
    assert torch.equal(found.hits["probe_recall_few"], votes[:, 2])
    apart = class_separation(x, y, [2], drawn.run.generator("audit/separation"), 110)
    assert torch.equal(found.hits["separation"], apart)
    kept = [kept_outputs(part @ MIXED.T, [2]) for part in (x, z)]
    assert torch.equal(found.hits["probe_outputs"], (linear_probe(kept[0], y, kept[1]) == labels).double())
    assert set(found.hits) == {"probe_recall", "probe_recall_few", "separation", "probe_outputs"}


@pytest.mark.parametrize(("asked", "least", "used"), [(3, 2, 2), (2, 4, 2), (4, 4, 4)])
def test_the_probe_from_a_few_takes_no_more_than_the_smallest_class_has(asked, least, used):
    settings = AuditSettings(few_per_class=asked, few_draws=2)
    few = records([0] * 8 + [1] * least + [2] * 9, TEST, classes=[2], settings=settings)
    found = Probed.of(answers(few))
    assert found.few == used
    assert probe_scores(answers(few), found, None)["probe_recall_few"].why == f"{used} records per class, 2 draws"


def test_scores_and_gaps_on_the_same_unseen_records(drawn):
    model = answers(drawn)
    ours = Probed.of(model)
    g = torch.Generator().manual_seed(0)
    theirs = Probed(
        {
            k: torch.rand(len(v), generator=g, dtype=torch.float64).round() if k != "separation" else v * 0.5 + 0.1
            for k, v in ours.hits.items()
        }
        | {"probe_recall_few": torch.rand(len(ours.hits["probe_recall_few"]), generator=g, dtype=torch.float64)},
        {},
    )
    confidence = drawn.simultaneous_confidence
    found, alone = probe_scores(model, ours, theirs), probe_scores(model, ours, None)
    for key in ("probe_recall", "probe_outputs"):
        assert alone[key] == share_score(ours.hits[key], None, drawn)
        assert found[key] == with_gap(alone[key], paired_gap(ours.hits[key], theirs.hits[key], confidence))
    hits, other = ours.hits["separation"], theirs.hits["separation"]
    assert alone["separation"] == scored(percentiles(float(hits[0]), hits[1:], 0.9))
    gap = percentiles(float(hits[0] - other[0]), (hits - other)[1:], confidence)
    assert found["separation"] == with_gap(alone["separation"], gap)
    few, their_few = ours.hits["probe_recall_few"], theirs.hits["probe_recall_few"]
    assert alone["probe_recall_few"] == mean_score(few, drawn, "probe_recall_few", 110, "1 record per class, 7 draws")
    gap = bootstrap_mean(
        few - their_few,
        drawn.run.generator("audit/bootstrap/probe_recall_few gap"),
        resamples=110,
        confidence=confidence,
    )
    assert found["probe_recall_few"] == with_gap(alone["probe_recall_few"], gap)


def test_what_cannot_be_probed_says_why_and_leaves_the_others():
    items = records(TRAIN, TEST, items=[0, 1])
    found = Probed.of(answers(items))
    assert found.hits == {}
    assert {s.why for s in found.missing.values()} == {
        "the request names no class: single items have no head of their own"
    }
    unseen = records(TRAIN, [0, 1], classes=[2])
    model = answers(unseen)
    found = Probed.of(model)
    why = "the test data holds no record of the forgotten classes"
    assert set(probe_scores(model, found, None).values()) == {Score.missing(why)}
    lonely = records([0, 1] * 8 + [2], TEST, classes=[2])
    model = answers(lonely)
    found = Probed.of(model)
    assert set(found.missing) == {"separation"}
    assert "two records" in found.missing["separation"].why
    both = probe_scores(model, found, found)
    assert both["separation"] == found.missing["separation"]
    assert both["probe_recall"].gap == 0


def test_a_reference_without_a_probe_leaves_no_gap(drawn):
    ours = Probed.of(answers(drawn))
    theirs = dataclasses.replace(ours, hits={})
    assert probe_scores(answers(drawn), ours, theirs) == probe_scores(answers(drawn), ours, None)


def test_among_which_classes_a_probe_looked_is_said_and_not_where_these_are_all():
    labels, names = [*range(12)] * 4, "abcdefghijkl"
    settings = SETTINGS.model_copy(update={"probe_classes": 5})
    model = answers(records(labels, labels, settings=settings, names=names, classes=[2]))
    scores = probe_scores(model, Probed.of(model), None)
    assert {k: "among 5 of 12 classes" in s.why for k, s in scores.items()} == dict.fromkeys(scores, True)
    everyone = answers(records(labels, labels, settings=SETTINGS, names=names, classes=[2]))
    assert not any("among" in s.why for s in probe_scores(everyone, Probed.of(everyone), None).values())
