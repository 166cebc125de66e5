"""Scores of canaries on a linear network, and which canaries and which fresh ones are asked about."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.measures.canaries import canary_statistic, fresh_band, most_by_chance
from efface.auditing.measures.margins import margins
from efface.auditing.measures.roc import auc, tpr_at_fpr
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores import canaries as module
from efface.auditing.scores.canaries import MEASURES, CanaryRecords, canary_scores_of
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.data.canaries import Canaries
from efface.data.planted import displaced, planted
from efface.errors import InputError
from efface.request import Request
from efface.running.run import Run

CLASSES, OWN = 4, 80


def data(count: int = 8) -> Data:
    labels = torch.arange(OWN) % CLASSES
    x = 3 * torch.eye(CLASSES)[labels] + torch.randn(OWN, CLASSES, generator=torch.Generator().manual_seed(0))
    made = Data("small", ArraySamples(x, labels), ArraySamples(x, labels), tuple("abcd"))
    return planted(made, Canaries(count=count, epsilon=0.5, seed=3), 0.0, 0)


def records(of: Data | None = None, seed: int = 0, items: tuple[int, ...] | None = None, earlier=()) -> Records:
    of = of or data()
    free = next(i for i in range(OWN) if i not in of.canaries.sources)
    split = Split.of(of, Request(items=(free,) if items is None else items, canaries=True), 0.0, 0, earlier)
    return Records.drawn(split, AuditSettings(), Run(seed=seed, device="cpu"))


def linear() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(CLASSES, CLASSES))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(CLASSES, CLASSES, generator=torch.Generator().manual_seed(1)))
        model[1].bias.zero_()
    return model


def answers(model: nn.Module, of: Records) -> Answers:
    return Answers.of(Row("mine", "candidate", model), of)


def test_canaries_and_fresh_ones_are_made_alike():
    of = records()
    about, planted_ = CanaryRecords.drawn(of), of.split.data.canaries
    wrong = planted_.positions[planted_.mislabelled]
    assert about.mislabelled.indices.tolist() == wrong.tolist()
    assert about.clean.indices.tolist() == planted_.sources[~planted_.mislabelled].tolist()
    train = of.split.data.train
    noisy, clean = train.read(
        [torch.from_numpy(p[~planted_.mislabelled]) for p in (planted_.positions, planted_.sources)]
    )
    assert torch.equal(about.noise, noisy - clean)
    assert about.epsilon == 0.5
    # Fresh ones are of kept records that are no canary's source, each asked about every wrong label.
    asked = {*planted_.positions.tolist(), *planted_.sources.tolist(), *of.split.forget.indices.tolist()}
    x, y = about.fresh.tensors()
    assert len(x) == OWN + 8 - len(asked)
    assert about.wrong.shape == (3, len(x))
    every = torch.cat([y[None], about.wrong]).sort(0).values
    assert torch.equal(every, torch.arange(CLASSES)[:, None].expand(-1, len(x)))
    own, _ = of.split.data.train.read([torch.arange(OWN)] * 2)
    moved = (x[:, None] - own[None]).square().mean(2).min(1).values.mean().sqrt()
    assert 0.2 < float(moved) < 0.5  # the nearest record is no further than epsilon from a copy
    again, other = CanaryRecords.drawn(of), CanaryRecords.drawn(records(seed=1))
    assert torch.equal(again.fresh.samples.inputs, about.fresh.samples.inputs)
    assert (again.seed, again.seed == other.seed) == (about.seed, False)
    assert not torch.equal(other.fresh.samples.inputs, about.fresh.samples.inputs)


def test_at_most_so_many_records_and_labels(monkeypatch):
    monkeypatch.setattr(module, "FRESH", 10)
    monkeypatch.setattr(module, "LABELS", 2)
    found = CanaryRecords.drawn(records())
    assert found.wrong.shape == (2, 10)
    assert not (found.wrong == found.fresh.labels).any()
    assert not (found.wrong[0] == found.wrong[1]).any()


def test_canaries_whose_own_record_is_asked_for_are_left_out():
    of = data()
    sources = of.canaries.sources
    found = CanaryRecords.drawn(records(of, items=(int(sources[0]), int(sources[-1]))))
    assert found.mislabelled.indices.tolist() == of.canaries.positions[1:4].tolist()
    assert found.clean.indices.tolist() == sources[4:7].tolist()


def test_canaries_that_are_gone_are_refused():
    of = data()
    free = [i for i in range(OWN) if i not in of.canaries.sources]
    earlier = Request(items=(free[0],), canaries=True)
    with pytest.raises(InputError, match="none of the canaries is left to forget: an earlier request named them"):
        CanaryRecords.drawn(records(of, items=(free[1],), earlier=(earlier,)))
    bare = SimpleNamespace(canaries=None, train=None)
    without = SimpleNamespace(split=SimpleNamespace(data=bare, forget=SimpleNamespace(indices=np.arange(3))), run=None)
    with pytest.raises(InputError, match="none of the canaries is left"):
        CanaryRecords.drawn(without)


def test_scores_are_the_measures_on_margins_for_wrong_labels():
    of = records()
    own, about = answers(linear(), of), CanaryRecords.drawn(of)
    scores, confidence = canary_scores_of(own, about), of.simultaneous_confidence
    assert list(scores) == [m.key for m in MEASURES]
    x, y = about.mislabelled.tensors()
    z, _ = about.fresh.tensors()
    model = linear()
    with torch.no_grad():
        known = margins(model(x), y)
        fresh = torch.cat([margins(model(z), w) for w in about.wrong])
    score, band = scores["canary_auc"], fresh_band(4, len(z), confidence)
    assert score.value == pytest.approx(auc(known, fresh))
    assert (score.floor, score.floor_low, score.floor_high) == (0.5, band.low, band.high)
    assert score.why == f"4 mislabelled canaries, {len(fresh)} fresh ones from {len(z)} records"
    low = scores["canary_tpr_1"]
    assert low.value == tpr_at_fpr(known, fresh, 0.01)
    assert (low.floor, low.floor_low, low.floor_high) == (0.01, 0.0, most_by_chance(4, 0.01, confidence))
    assert low.why == f"{round(4 * low.value)} of 4 canaries at a false-positive rate of 1.0%"
    assert scores["canary_tpr_01"].why == (
        "a false-positive rate of 0.1% needs 1000 fresh canaries; the kept records and their wrong labels make "
        f"{len(fresh)}"
    )
    assert not scores["canary_tpr_01"].measured


def test_the_noise_is_sought_in_the_gradient_of_minus_the_margin():
    """Of a linear network it is, record by record, the mean of the other rows by their softmax less the label's row."""
    of = records()
    own, about = answers(linear(), of), CanaryRecords.drawn(of)
    x, y = about.clean.tensors()
    weight = linear()[1].weight.detach()
    with torch.no_grad():
        others = linear()(x).scatter(1, y[:, None], -torch.inf).softmax(1)
    gradients = others @ weight - weight[y]
    rng = np.random.default_rng(about.seed)
    fresh = [displaced(torch.zeros_like(about.noise), 0.5, rng) for _ in range(200)]
    score = canary_scores_of(own, about)["canary_noise"]
    assert score.value == pytest.approx(canary_statistic(gradients, about.noise, 0.5, fresh), rel=1e-5)
    half = stats.t.ppf(0.5 + of.simultaneous_confidence / 2, 199) * (1 + 1 / 200) ** 0.5
    assert (score.floor, score.floor_low, score.floor_high) == pytest.approx((0.0, -half, half))
    assert score.why == "4 correctly labelled canaries"


def test_a_model_that_leans_to_the_noise_is_found_and_one_that_rejects_it_lies_on_the_other_side():
    """The margin of each label rises along the mean noise of its canaries."""
    of = records()
    about = CanaryRecords.drawn(of)
    for sign in (1, -1):
        model = linear()
        with torch.no_grad():
            model[1].weight.zero_()
            for c in range(CLASSES):
                mine = about.clean.labels == c
                if mine.any():
                    model[1].weight[c] = sign * about.noise[mine].mean(0)
        score = canary_scores_of(answers(model, of), about)["canary_noise"]
        assert sign * score.value < -2


class Blocked(nn.Module):
    """Answers without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = linear()

    def forward(self, x):
        return self.inside(x.detach())


def test_what_cannot_be_asked_says_why():
    of = records()
    about = CanaryRecords.drawn(of)
    none = dataclasses.replace(about, mislabelled=about.mislabelled.take([]))
    scores = canary_scores_of(answers(linear(), of), none)
    why = f"0 mislabelled canaries and {len(about.fresh)} records to make fresh ones of; needed: one of each"
    assert {scores[k].why for k in ("canary_auc", "canary_tpr_1", "canary_tpr_01")} == {why}
    assert scores["canary_noise"].measured
    no_fresh = dataclasses.replace(about, fresh=about.fresh.take([]))
    assert canary_scores_of(answers(linear(), of), no_fresh)["canary_auc"].why == (
        "4 mislabelled canaries and 0 records to make fresh ones of; needed: one of each"
    )
    unclean = dataclasses.replace(about, clean=about.clean.take([]))
    assert canary_scores_of(answers(linear(), of), unclean)["canary_noise"].why == (
        "no correctly labelled canary is asked for whose own record stays"
    )
    for frozen in (False, True):
        blocked = Blocked().requires_grad_(not frozen)
        score = canary_scores_of(answers(blocked, of), about)["canary_noise"]
        assert score.why == "the model's answers have no gradient with respect to its inputs"
