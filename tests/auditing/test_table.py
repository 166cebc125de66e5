"""The table of an audit: who is compared with whom, and what stands beside each score; the models are names."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from efface.auditing import table as module
from efface.auditing.catalogue import MEASURES
from efface.auditing.floors import Floors
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings
from efface.auditing.table import Table

AIN = module.AIN.key
SINGLE = "test_accuracy"  # of one model
PAIR = "forget_js"  # of two
ENSEMBLE = next(key for key, m in MEASURES.items() if m.group == "ensembles")


class Model:
    """A model whose scores are what its name was worth."""

    def __init__(self, name: str, worth: float) -> None:
        self.name, self.worth = name, worth

    def __repr__(self) -> str:
        return self.name


ORIGINAL, RETRAINED, MINE = Model("original", 1.0), Model("retrained", 2.0), Model("mine", 3.0)


def answers(further=0, repeats=(), *, retrained=True):
    rows = [ORIGINAL, *([RETRAINED] if retrained else []), MINE]
    more = [Model(f"retrained {k + 2}", 10.0 + k) for k in range(further)]
    return SimpleNamespace(
        table={m.name: m for m in rows},
        original=ORIGINAL,
        candidate=MINE,
        retrained=RETRAINED if retrained else None,
        further=more,
        repeats=list(repeats),
        everyone=[*([RETRAINED] if retrained else []), *more],
    )


def records(**settings):
    run = SimpleNamespace(track=lambda items, label, total=None: items)
    return SimpleNamespace(settings=AuditSettings(resamples=100, **settings), run=run)


def every(value):
    return {key: Score(value=value) for key in MEASURES}


@pytest.fixture
def made(monkeypatch):
    """What was asked for, in order."""
    calls = []

    def relearned(own, original, first=None, folder=None):
        calls.append(("relearned", own.name, original.name, first, folder))
        return f"course of {own.name}"

    def probed(own, folder=None):
        calls.append(("probed", own.name, folder))
        return f"probe of {own.name}"

    monkeypatch.setattr(module.Relearned, "of", relearned)
    monkeypatch.setattr(module.Probed, "of", probed)
    monkeypatch.setattr(module.RandomModel, "of", lambda original: f"random like {original.name}")

    def of_answers(own, asked, random_model, resamples):
        assert random_model == "random like original"
        calls.append(("answers", own.name, resamples))
        return {SINGLE: Score(value=own.worth), PAIR: Score(value=99.0), "population_auc": Score.missing("why")}

    def probe_scores(own, mine, theirs):
        calls.append(("probe scores", own.name, mine, theirs))
        return {"probe_recall": Score(value=own.worth / 100)}

    def relearning_scores(course, other):
        calls.append(("relearning", course, other))
        return {"relearn_steps": Score(value=5.0), AIN: Score.missing("none") if other is None else Score(value=1.5)}

    def of_pair(own, other):
        calls.append(("pair", own.name, other.name))
        return {PAIR: Score(value=own.worth * other.worth)}

    for name, function in {
        "_of_answers": of_answers, "probe_scores": probe_scores, "relearning_scores": relearning_scores,
        "_of_pair": of_pair,
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, function)
    return calls


def floors_of(asked, scores=None, *, folder=None, **settings):
    by_name = {m.name: every(m.worth) for m in asked.table.values()} | (scores or {})
    courses = {m.name: f"course of {m.name}" for m in asked.table.values()}
    return module._floors(by_name, asked, "random like original", courses, records(**settings), folder).values


def test_without_a_retrained_model_there_is_no_floor(made):
    assert floors_of(answers(retrained=False)) == {}
    assert made == []


def test_a_floor_is_what_each_retrained_model_scores_by_itself_and_every_pair_of_two(made):
    found = floors_of(answers(further=3), folder=Path("kept"))
    assert found[SINGLE] == [2.0, 10.0, 11.0, 12.0]
    assert found["probe_recall"] == [2.0, 0.1, 0.11, 0.12]
    models = {"retrained": 2.0, "retrained 2": 10.0, "retrained 3": 11.0, "retrained 4": 12.0}
    # Not what each says beside the first alone.
    assert found[PAIR] == [a * b for a, b in itertools.combinations(models.values(), 2)]
    assert [(c[1], c[2]) for c in made if c[0] == "pair"] == list(itertools.combinations(models, 2))
    assert found[AIN] == [1.5] * 6
    courses = [f"course of {name}" for name in models]
    pairs = [c[1:] for c in made if c[0] == "relearning" and c[2] is not None]
    assert pairs == list(itertools.combinations(courses, 2))
    assert "population_auc" in found  # of the first, from the table
    assert found["population_auc"] == [2.0]  # of the others it could not be measured
    assert [c for c in made if c[0] == "answers"] == [("answers", name, 0) for name in list(models)[1:]]
    assert [c[1:] for c in made if c[0] == "relearned"] == [
        (name, "original", "course of retrained", Path("kept")) for name in list(models)[1:]
    ]
    assert [c[1:] for c in made if c[0] == "probed"] == [(name, Path("kept")) for name in list(models)[1:]]
    assert {c[3] for c in made if c[0] == "probe scores"} == {None}


def test_of_many_only_some_are_probed_and_relearn(made):
    found = floors_of(answers(further=4), floor_models=2)
    assert found[SINGLE] == [2.0, 10.0, 11.0, 12.0, 13.0]
    assert found["probe_recall"] == [2.0, 0.1, 0.11]
    assert len(found["relearn_steps"]) == 3
    assert len(found[AIN]) == 3


def test_each_row_relearns_once_and_is_watched_as_long_as_the_retrained_model_needs(made):
    found = module._relearned(answers(), records())
    assert found == {name: f"course of {name}" for name in ("original", "retrained", "mine")}
    assert [c[1:4] for c in made] == [
        ("retrained", "original", None),
        ("original", "original", "course of retrained"),
        ("mine", "original", "course of retrained"),
    ]
    made.clear()
    module._relearned(answers(retrained=False), records())
    assert [c[1:4] for c in made] == [("original", "original", None), ("mine", "original", None)]


def test_ensembles_are_of_the_candidate_alone_and_need_repeats(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "ensemble_scores", lambda *given: asked.append(given) or {"quality": 1})
    monkeypatch.setattr(module, "thirds_scores", lambda *given: asked.append(given) or {"thirds_auc": 2})
    found = module._of_ensembles(ORIGINAL, answers(), "records", "thirds")
    assert set(found) == {key for key, m in MEASURES.items() if m.group == "ensembles"}
    assert {s.why for s in found.values()} == {"only the candidate's method was run several times"}
    assert asked == []
    several = answers(further=1, repeats=[Model("mine 2", 4.0)])
    assert module._of_ensembles(MINE, several, "records", "thirds") == {"quality": 1, "thirds_auc": 2}
    assert asked == [([MINE, *several.repeats], several.everyone, "records"), ("thirds", "records")]
    asked.clear()
    module._of_ensembles(MINE, answers(), "records", None)
    assert asked == [([], [RETRAINED], "records"), (None, "records")]


@pytest.mark.parametrize("retrained", [True, False])
def test_beside_each_score_stand_the_originals_the_retrained_models_and_the_floor(retrained):
    asked = answers(retrained=retrained)
    scores = {name: every(m.worth) for name, m in asked.table.items()}
    scores["original"] |= {SINGLE: Score.missing("not there")}
    found = module._beside(scores, asked, Floors({"separation": [1.0, 1.2]}), 0.95)
    assert {name: list(row) for name, row in found.items()} == {name: list(MEASURES) for name in scores}
    for name, row in found.items():
        assert row["separation"].original == (None if name == "original" else 1.0)
        assert row["separation"].reference == (2.0 if retrained and name != "retrained" else None)
        assert row["separation"].floor == pytest.approx(1.1)
        assert row["separation"].floor_low < 1.0 < 1.2 < row["separation"].floor_high
        assert row["relearn_steps"].floor is None
    assert found["mine"][SINGLE].original is None
    assert found["mine"][SINGLE].value == 3.0


def test_a_tables_rows_hold_every_measure_in_the_catalogues_order(made, monkeypatch):
    """Each part of a row is asked with the row's own model and beside the retrained one."""
    monkeypatch.setattr(module, "_of_answers", lambda own, *_: every(own.worth))
    monkeypatch.setattr(module, "_of_ensembles", lambda own, asked, records, thirds: {ENSEMBLE: Score(value=thirds)})
    monkeypatch.setattr(module, "cost_scores", lambda row, other: {"seconds": Score(value=row.s - other.s)})
    monkeypatch.setattr(module, "_floors", lambda *given: Floors({"relearn_steps": [5.0, 6.0]}))
    rows = {m.name: SimpleNamespace(s=m.worth) for m in (ORIGINAL, RETRAINED, MINE)}
    holder = type("Rows", (dict,), {"retrained": rows["retrained"]})(rows)
    found = Table.of(holder, answers(), records(), 7.0, None)
    assert list(found.scores) == ["original", "retrained", "mine"]
    for name, row in found.scores.items():
        assert list(row) == list(MEASURES)
        assert row[ENSEMBLE].value == 7.0
        assert row["seconds"].value == rows[name].s - 2.0
        assert row["relearn_steps"].floor == pytest.approx(5.5)
    assert found.relearned["mine"] == "course of mine"
    assert [c[1:] for c in made if c[0] == "probe scores"] == [
        (name, f"probe of {name}", "probe of retrained") for name in rows
    ]
    assert [c[1:] for c in made if c[0] == "relearning"] == [
        (f"course of {name}", "course of retrained") for name in rows
    ]
    assert [c[1:] for c in made if c[0] == "probed"] == [(name, None) for name in rows]


def test_scores_from_answers_are_asked_beside_the_retrained_model_and_all_of_them(monkeypatch):
    asked = answers(further=1)
    for name in ("utility", "agreement", "membership", "exposure"):
        monkeypatch.setattr(module, f"{name}_scores", lambda *given, name=name, **named: {name: (given, named)})
    few = {"resamples": 50}
    assert module._of_answers(MINE, asked, "random", 50) == {
        "utility": ((MINE, RETRAINED, ORIGINAL), {}),
        "agreement": ((MINE, RETRAINED, "random"), few),
        "membership": ((MINE, RETRAINED, asked.everyone), few),
        "exposure": ((MINE, RETRAINED, asked.everyone), {}),
    }


def test_pairs_are_compared_by_their_values_only(monkeypatch):
    monkeypatch.setattr(module, "tow_score", lambda *given: ("tow", given))
    monkeypatch.setattr(module, "beside_unseen", lambda *given: ("beside", given))
    monkeypatch.setattr(module, "compared_scores", lambda *given, resamples: {"compared": (given, resamples)})
    both = (MINE, RETRAINED)
    assert module._of_pair(*both) == {
        "tow": ("tow", both), "compared": (both, 0), module.BESIDE_UNSEEN.key: ("beside", both),
    }  # fmt: skip
