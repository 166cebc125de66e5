"""Method auto: cheapest first, held-out data only, and a reason in the record."""

from __future__ import annotations

import dataclasses

import pytest

from efface.data import Split, load
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import methods
from efface.methods.retrain import Retrain
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.searching.judge import Standards
from efface.searching.ladder import EXPENSES, NEVER, candidates, choose
from efface.training.recipe import Recipe


@pytest.fixture(scope="module")
def data():
    return load("digits")


@pytest.fixture(scope="module")
def artifact(data):
    spec = ModelSpec(build="mlp", arguments={"hidden": [24], "activation": "relu"})
    model = build(spec, input_shape=data.input_shape, num_classes=10)
    return prepare(None, model, Split.of(data), Recipe(lr=0.1, epochs=8, batch_size=64), Run(), spec=spec)


def test_every_method_of_the_target_is_a_candidate_and_cheapest_come_first():
    for target in ("classes", "items"):
        found = [m.name for m in candidates(target)]
        assert set(found) == {n for n, m in methods().items() if target in m.needs.targets} - set(NEVER)
        order = [EXPENSES.index(m.expense) for m in candidates(target)]
        assert order == sorted(order)


def test_the_first_to_meet_the_standards_is_taken_and_the_rest_is_not_tried(data, artifact):
    split = Split.of(data, Request.of(classes=[2]))
    made = choose(artifact, split, Run(seed=1), standards=Standards(kept=1.0, forgotten=1.0))
    notes = [n for n in made.record.notes if n.startswith("auto: ")][1:]
    tried = [m.name for m in candidates("classes")][: len(notes)]
    assert [n.split(":")[1].split()[0] for n in notes] == tried
    assert tried[-1] == made.record.method
    assert "meets the standards" in notes[-1]
    assert all("refused" in n for n in notes[:-1])
    assert "mnemonic" in tried  # refused: trained without codes


def test_if_none_meets_the_standards_the_record_says_so_and_the_least_miss_is_taken(data, artifact, monkeypatch):
    from efface.searching import ladder as choosing

    few = [methods()[n] for n in ("fine-tune", "gradient-ascent")]
    monkeypatch.setattr(choosing, "candidates", lambda _: few)
    split = Split.of(data, Request.of(classes=[2]))
    made = choose(artifact, split, Run(seed=1), standards=Standards(kept=-1.0, forgotten=-1.0))
    assert made.record.notes[-3].startswith("auto: took")
    assert "none met the standards" in made.record.notes[-3]
    misses = {n.split(":")[1].strip(): float(n.rsplit("by ", 1)[1]) for n in made.record.notes[-2:]}
    assert misses[made.record.method] == min(misses.values())


def test_a_reference_adds_the_probe(data, artifact, monkeypatch):
    from efface.searching import ladder as choosing

    monkeypatch.setattr(choosing, "candidates", lambda _: [methods()["fine-tune"]])
    split = Split.of(data, Request.of(classes=[2]))
    reference = apply(Retrain(), artifact, split, Run(seed=5)).model
    made = choose(artifact, split, Run(seed=1), reference)
    assert "recall on features" in made.record.notes[-1]


def test_items_are_judged_by_data_no_model_has_seen(data, artifact, monkeypatch):
    from efface.searching import ladder as choosing

    monkeypatch.setattr(choosing, "candidates", lambda _: [methods()["fine-tune"]])
    split = Split.of(data, Request.of(items=range(0, 300, 3)))
    made = choose(artifact, split, Run(seed=1))
    assert made.record.request.target == "items"


def test_test_data_is_never_touched(data, artifact, monkeypatch):
    from efface.searching import ladder as choosing

    class Untouchable:
        labels = data.test.labels
        input_shape = data.test.input_shape
        fingerprint = data.test.fingerprint

        def __len__(self):
            return len(self.labels)

        def read(self, *_: object, **__: object):
            raise AssertionError("test data was read")

    closed = dataclasses.replace(data, test=Untouchable())
    monkeypatch.setattr(choosing, "candidates", lambda _: [methods()["fine-tune"]])
    made = choose(artifact, Split.of(closed, Request.of(classes=[2])), Run(seed=1))
    assert made.record.method == "fine-tune"


def test_nothing_held_out_is_refused(data, artifact):
    with pytest.raises(InputError, match="held out"):
        choose(artifact, Split.of(data, Request.of(classes=[2]), validation=0.0), Run())
