"""Audits of requests that name canaries: they conclude, at every level of evidence, and say what they rest on."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from efface.auditing import canaries as module
from efface.auditing.assess import assess
from efface.auditing.canaries import about_the_records, canaries_instead, canary_checks, with_canaries
from efface.auditing.floors import Floors
from efface.auditing.questions import OF_CANARIES
from efface.auditing.result import Audit
from efface.auditing.rows import Row, Rows
from efface.auditing.scores.canaries import MEASURES
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings
from efface.auditing.table import Table
from efface.data import ArraySamples, Split, load
from efface.data.planted import canaries_for, planted
from efface.errors import InputError
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe

RECIPE = Recipe(optimiser="adam", lr=0.01, epochs=30, batch_size=64, weight_decay=0)
QUICK = AuditSettings(resamples=100, relearn_cap=40, kept_steps=20, floor_models=3)
KEYS = {q.key for q in OF_CANARIES}


def trained(part, seed):
    with seeded(seed):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return fit(network, part, RECIPE.but(seed=seed), Run(seed=seed), stage="train")


@dataclasses.dataclass
class World:
    split: Split
    original: nn.Module
    retrained: list[nn.Module]
    kept: nn.Module
    made: dict[Any, Audit] = dataclasses.field(default_factory=dict)

    def audit(self, model, references, split=None, settings=QUICK) -> Audit:
        key = id(model), references, id(split), settings.model_dump_json()
        if key not in self.made:
            self.made[key] = self._audit(model, references, split, settings)
        return self.made[key]

    def _audit(self, model, references, split, settings) -> Audit:
        rows = [Row("original", "original", self.original), Row("candidate", "candidate", model)]
        rows += [Row("retrained", "retrained", m) for m in self.retrained[: min(references, 1)]]
        further = tuple(Row(f"retrained {i + 2}", "retrained", m) for i, m in enumerate(self.retrained[1:references]))
        return assess(Rows(tuple(rows), further=further), split or self.split, Run(seed=5), settings=settings)


@pytest.fixture(scope="module")
def world() -> World:
    data = load("digits")
    few = ArraySamples(data.train.inputs[:500], data.train.labels[:500])
    data = dataclasses.replace(data, train=few)
    data = planted(data, canaries_for(data, 30, 0, 0.0), 0.0, 0)
    free = [i for i in range(500) if i not in data.canaries.sources][:10]
    split = Split.of(data, Request(items=tuple(free), canaries=True), 0.0, 0)
    original = trained(split.train, 0)
    return World(split, original, [trained(split.retain, 100 + k) for k in range(6)], halved(original))


def halved(model):
    """All logits halved: the same answers, less sure."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made[-1].parameters():
            parameter.mul_(0.5)
    return made


def checks_of(audit):
    return {c.key: c for c in audit.verdict.checks}


@pytest.mark.parametrize("references", [1, 5])
@pytest.mark.seconds
def test_a_retrained_model_is_alike_and_one_that_knows_differs(world, references):
    gone = world.audit(world.retrained[5], references)
    assert gone.verdict.outcome == "alike"
    assert gone.verdict.control is True
    kept = world.audit(world.kept, references)
    assert kept.verdict.outcome == "differs"
    assert checks_of(kept)["canaries"].direction == "left"
    assert Audit.from_json(kept.to_json()) == kept


def test_without_any_reference_canaries_still_tell_what_was_kept(world):
    kept, gone = world.audit(world.kept, 0), world.audit(world.retrained[0], 0)
    assert (kept.level, kept.verdict.outcome) == ("a", "differs")
    assert gone.verdict.outcome == "not assessed"  # level a shows no more than that
    assert checks_of(gone)["canaries"].outcome == "alike"


def test_their_scores_have_the_original_and_the_band_beside_them(world):
    audit = world.audit(world.retrained[5], 5)
    score = audit.row("candidate")["canary_auc"]
    assert score.original == audit.row("original")["canary_auc"].value > score.floor_high
    assert score.floor_low < score.value < score.floor_high
    assert "15 mislabelled canaries" in score.why
    assert audit.row("original")["canary_tpr_1"].value > 0.5
    assert set(audit.measures) == set(audit.rows[0].scores)


def test_the_verdict_says_what_it_rests_on(world):
    assert "the 30 canaries" in world.audit(world.retrained[5], 5).verdict.headline
    assert "takes four retrained models" in world.audit(world.retrained[5], 1).verdict.headline
    assert any("Training records 500 to 529 are canaries" in n for n in world.audit(world.retrained[5], 1).notes)


def test_records_that_were_never_memorised_are_told_apart_from_a_pass(world):
    """The same models, asked about ten plain records alone: nothing can be told, and the report names no pass."""
    items = Request(items=world.split.request.items)
    audit = world.audit(world.retrained[5], 5, split=Split.of(world.split.data, items, 0.0, 0))
    assert audit.verdict.outcome == "not assessed"
    assert "othing about these records could be told from the original" in audit.verdict.headline
    assert audit.verdict.headline.endswith("Of the 10 records asked for, none stands out in the original as memorised.")
    assert any(s.startswith("Without power here: forget, threshold") for s in audit.verdict.sentences)
    assert "--with-canaries" in audit.verdict.advice
    assert not KEYS & set(checks_of(audit))
    assert any("30 stay, as the request leaves them" in note for note in audit.notes)


def test_settings_that_do_not_ask_leave_them_out(world):
    audit = world.audit(world.retrained[5], 1, settings=QUICK.model_copy(update={"canaries": False}))
    assert not KEYS & set(checks_of(audit))
    assert "canary_auc" not in audit.measures


def test_canaries_that_an_earlier_request_named_cannot_be_asked_about(world):
    data, first = world.split.data, world.split.request
    later = next(i for i in range(500) if i not in {*first.items, *data.canaries.sources.tolist()})
    split = Split.of(data, Request(items=(later,), canaries=True), 0.0, 0, earlier=[first])
    check = checks_of(world.audit(world.retrained[5], 1, split=split))["canaries"]
    assert check.outcome == "not assessed"
    assert "an earlier request named them" in check.finding


@pytest.mark.seconds
def test_sealed_questions_about_items_ask_the_most_memorised(world):
    settings = QUICK.model_copy(update={"sealed": True})
    kept, gone = (world.audit(m, 5, settings=settings) for m in (world.kept, world.retrained[5]))
    assert "the 10 most memorised records" in checks_of(kept)["kept-data"].finding
    assert checks_of(kept)["kept-data"].direction == "left"
    assert checks_of(gone)["kept-data"].outcome == "alike"


# --- by hand --------------------------------------------------------------------------------------------------------


def scored(value, why="of 15"):
    return Score(value=value, floor=0.5, floor_low=0.25, floor_high=0.75, why=why)


def asked(value, control=None, **changed):
    scores = {q.measure: scored(value) for q in OF_CANARIES} | changed
    return {c.key: c for c in canary_checks(scores, control)}


def test_a_score_outside_of_what_ignorance_gives_differs_on_its_side():
    low, within, high = asked(0.125), asked(0.5), asked(0.875)
    assert {k: c.direction for k, c in low.items()} == {
        "canaries": "over", "canary-1": "", "canary-01": "", "canary-noise": "left",
    }  # fmt: skip
    assert {k: c.direction for k, c in high.items()} == {
        "canaries": "left", "canary-1": "left", "canary-01": "left", "canary-noise": "over",
    }  # fmt: skip
    assert {c.outcome for c in within.values()} == {"alike"}
    assert within["canaries"].finding == (
        "0.50, a model that never saw them 0.25 to 0.75 (of 15); a difference would show below 0.25 or above 0.75"
    )
    assert within["canary-1"].finding.endswith("(of 15); a difference would show above 0.75")


@pytest.mark.parametrize("missing", ["value", "floor_low", "floor_high"])
def test_a_score_without_a_band_is_not_assessed(missing):
    found = asked(0.5, canary_noise=scored(9.0, "no noise").model_copy(update={missing: None}))["canary-noise"]
    question = next(q for q in OF_CANARIES if q.key == "canary-noise")
    assert (found.outcome, found.finding, found.measure) == ("not assessed", "no noise", question.measure)
    assert found.question == question.question


def test_a_question_that_does_not_tell_the_original_is_not_alike():
    control = list(asked(0.5, canary_auc=scored(0.9)).values())
    found = asked(0.5, control)
    assert (found["canaries"].outcome, found["canaries"].told) == ("alike", True)
    assert (found["canary-1"].outcome, found["canary-1"].told) == ("not assessed", False)
    assert found["canary-1"].finding.startswith("cannot tell here: the original passes as well; 0.50, a model")


OWN = 20
"""Records of the data itself; canaries come after them."""


def said(known=0, *, items=6, canaries=0, others=4, shift=9.0, floors=(1.0, 1.1, 0.9, 1.0), by_class=False):
    """What is said of some records of which the original knows the first few as no retrained model does."""
    n = items + canaries
    margins = torch.randn(others, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    original = margins.mean(0)
    original[:known] += shift
    original[items:] += 50  # canaries are memorised, and are not counted
    part = SimpleNamespace(indices=np.array([*range(items), *range(OWN, OWN + canaries)]))
    split = SimpleNamespace(data=SimpleNamespace(own_size=OWN))
    records = SimpleNamespace(parts={"forget": part}, split=split, by_class=by_class, simultaneous_confidence=0.95)
    everyone = [SimpleNamespace(margin={"forget": m}.__getitem__) for m in margins]
    answers = SimpleNamespace(everyone=everyone, original=SimpleNamespace(margin={"forget": original}.__getitem__))
    table = SimpleNamespace(floors=Floors({"exposure": list(floors)}))
    return about_the_records(answers, table, records)


def test_what_is_said_of_the_records_asked_for_themselves():
    none = "Of the 6 records asked for, none stands out in the original as memorised."
    assert said() == none
    assert said(2, shift=99.0) == "Of the 6 records asked for, 2 stand out in the original as memorised."
    assert said(2, shift=-99.0, canaries=3) == "Of the 6 records asked for, 2 stand out in the original as memorised."
    assert said(2, shift=0.01) == none
    one = "Of the 1 record asked for, 1 stands out in the original as memorised."
    assert said(1, items=1, shift=99.0) == one
    assert said(canaries=3) == (
        "Of the 6 records asked for themselves, none stands out in the original: nothing about them could be told from "
        "it, and what is said here rests on the 3 canaries, which show how this model treats what it had memorised."
    )
    few = (
        "What is said here rests on the 3 canaries; whether the original had memorised the other records asked for "
        "takes four retrained models or more to say."
    )
    assert said(canaries=3, others=3) == few
    assert said(canaries=3, floors=(1.0,)) == few  # no band
    assert said(others=3) == ""
    assert said(canaries=3, by_class=True) == said(by_class=True, others=1) == ""


def test_what_canaries_would_do_for_a_request_that_names_none():
    def instead(left=0, *, by_class=False, **request):
        split = SimpleNamespace(request=Request(**request), canaries_left=list(range(left)))
        return canaries_instead(SimpleNamespace(split=split, by_class=by_class))

    assert instead(3, items=(1,)) == "a request that names the canaries of training, too (--with-canaries)"
    assert instead(items=(1,)) == (
        "canaries in the next training (efface train --canaries 20), which a request can name"
    )
    assert instead(3, classes=(1,), by_class=True) == instead(3, items=(1,), canaries=True) == ""


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("retrained", [True, False])
def test_each_rows_scores_stand_beside_the_originals_and_the_retrained_models(drawn, retrained, monkeypatch):
    def draw(records):
        if drawn:
            return "the canaries"
        raise InputError("none is left")

    def scored_of(own, canaries):
        assert canaries == "the canaries"
        return {m.key: Score(value=len(own.name)) for m in MEASURES}

    monkeypatch.setattr(module.CanaryRecords, "drawn", draw)
    monkeypatch.setattr(module, "canary_scores_of", scored_of)
    table = {name: SimpleNamespace(name=name) for name in ("original", "retrained", "mine")}
    answers = SimpleNamespace(
        table=table, original=table["original"], retrained=table["retrained"] if retrained else None
    )
    records = SimpleNamespace(run=SimpleNamespace(track=lambda items, label, total: items))
    plain = Table({name: {"tow": Score(value=0.5)} for name in table}, Floors(), {})
    made = with_canaries(plain, answers, records)
    assert (made.floors, made.relearned) == (plain.floors, plain.relearned)
    for name, scores in made.scores.items():
        assert list(scores) == ["tow", *(m.key for m in MEASURES)]
        assert scores["tow"] == Score(value=0.5)
        for m in MEASURES:
            score = scores[m.key]
            if not drawn:
                assert (score.measured, score.why, score.original) == (False, "none is left", None)
                continue
            assert score.value == len(name)
            assert score.original == (None if name == "original" else len("original"))
            assert score.reference == (len("retrained") if retrained and name != "retrained" else None)
