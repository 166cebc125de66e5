"""Method auto: cheapest first, held-out data only, and a reason in the record."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from efface.data import ArraySamples, Data, Split, load
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


# Planted models: what each of them reaches is known exactly, whatever the methods would have made.


def planted() -> Data:
    """Three classes of 40 at unit vectors, no noise; 4 of each are held out."""
    labels = np.repeat(np.arange(3), 40)
    train, test = (ArraySamples(torch.eye(3)[torch.from_numpy(y)], y) for y in (labels, np.arange(3)))
    return Data("planted", train, test, tuple("abc"))


def answering(*rows: int, seen: tuple[float, float, float] = (1, 1, 1)) -> nn.Module:
    """Answer class rows[c] where class c is, from features in which `seen` scales each coordinate."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.diag(torch.tensor(seen)))
        model[2].weight.zero_()
        model[2].bias.zero_()
        for c, answer in enumerate(rows):
            model[2].weight[answer, c] += 5
            if seen[c] == 0:
                model[2].bias[answer] += 1
    return model


RIGHT = (0, 1, 2)


@pytest.fixture
def tried(monkeypatch):
    """Let `choose` try methods that return planted models, and return its record's notes and the model taken."""
    from efface.searching import ladder as choosing

    def run(request, models, reference=None, standards=None):
        made = {}
        for name, model in models.items():
            kind = methods()[name]
            made[name] = model

            def forget(self, *_):
                found = made[self.name]
                if isinstance(found, InputError):
                    raise found
                return found

            monkeypatch.setattr(kind, "forget", forget)
        monkeypatch.setattr(choosing, "candidates", lambda _: [methods()[n] for n in models])
        data = planted()
        spec = Recipe(lr=0.1, epochs=0.1, batch_size=64)
        artifact = prepare(None, answering(*RIGHT), Split.of(data), spec, Run(device="cpu"))
        artifact = dataclasses.replace(artifact, model=answering(*RIGHT).eval())
        found = choose(artifact, Split.of(data, request), Run(device="cpu"), reference, standards)
        return found.record.method, [n for n in found.record.notes if n.startswith("auto: ")]

    return run


CLASS_0 = Request(classes=(0,))
ITEMS = Request(items=tuple(range(0, 120, 10)))


@pytest.mark.parametrize(
    ("request_", "answers", "reference", "kept", "forgotten", "excess"),
    [
        # Without a reference nothing of the class may be left: 0 + 5 points pass.
        (CLASS_0, (1, 1, 2), None, 100, 0, 0),
        (CLASS_0, (0, 1, 2), None, 100, 100, 0.95),
        (CLASS_0, (1, 1, 1), None, 50, 0, 0.48),
        (CLASS_0, (0, 2, 1), None, 0, 100, 0.98 + 0.95),
        # With one, what it reaches itself is no knowledge left; to be below it is allowed.
        (CLASS_0, (0, 1, 2), (0, 1, 2), 100, 100, 0),
        (CLASS_0, (1, 1, 2), (0, 1, 2), 100, 0, 0),
        (CLASS_0, (0, 1, 2), (1, 1, 2), 100, 100, 0.95),
        # Items: two-sided against the reference, or against accuracy on what no model has seen.
        (ITEMS, (0, 1, 2), None, 100, 100, 0),
        (ITEMS, (0, 1, 2), (1, 2, 0), 100, 100, 0.95),
        (ITEMS, (1, 2, 0), (0, 1, 2), 0, 0, 0.98 + 0.95),
    ],
)
def test_excess_is_what_lies_beyond_the_standards(tried, request_, answers, reference, kept, forgotten, excess):
    twin = None if reference is None else answering(*reference)
    method, notes = tried(request_, {"fine-tune": answering(*answers)}, twin)
    assert method == "fine-tune"
    verdict = f"misses them by {excess:.3f}" if excess else "meets the standards"
    assert notes[1].startswith(f"auto: fine-tune: kept {kept:.1f}%, forgotten {forgotten:.1f}%")
    assert notes[1].endswith(f" s; {verdict}")
    assert ("recall on features" in notes[1]) == (reference is not None and request_ is CLASS_0)


def test_features_may_hold_the_classes_no_better_than_the_reference_does(tried):
    """The reference's features put classes 0 and 1 in one place, where only the first of them is found."""
    request, reference = Request(classes=(1,)), answering(0, 0, 2, seen=(0, 0, 1))
    _, notes = tried(request, {"fine-tune": answering(0, 0, 2)}, reference)
    assert "forgotten 0.0%, recall on features 100.0%, " in notes[1]
    assert notes[1].endswith("misses them by 0.900")
    _, notes = tried(request, {"fine-tune": answering(0, 0, 2, seen=(0, 0, 0.5))}, reference)
    assert "recall on features 0.0%, " in notes[1]
    assert notes[1].endswith("meets the standards")
    # A reference whose features hold them as well excuses the candidate.
    _, notes = tried(request, {"fine-tune": answering(0, 0, 2)}, answering(0, 0, 2))
    assert notes[1].endswith("meets the standards")


def test_the_least_miss_is_taken_wherever_it_stands_and_the_first_of_equals(tried):
    best, worse, worst = answering(1, 1, 1), answering(0, 1, 2), answering(0, 2, 1)
    names = ("fine-tune", "gradient-ascent", "neg-grad-plus")
    for order, expected in (
        ((worst, best, worse), "gradient-ascent"),
        ((best, worst, worse), "fine-tune"),
        ((worst, worse, best), "neg-grad-plus"),
        ((worse, best, best), "gradient-ascent"),
    ):
        method, notes = tried(CLASS_0, dict(zip(names, order, strict=True)))
        assert method == expected
        assert notes[0] == (
            f"auto: took {expected}, none met the standards; it misses them least; judged on held-out data alone "
            "(no reference), cheapest first"
        )
        assert [n.split(":")[1].strip() for n in notes[1:]] == list(names)


def test_the_search_ends_with_the_first_that_meets_the_standards_and_goes_on_past_refusals(tried):
    right = answering(1, 1, 2)
    found = {"fine-tune": InputError("not this"), "gradient-ascent": right, "neg-grad-plus": right}
    method, notes = tried(CLASS_0, found, answering(1, 1, 2))
    assert method == "gradient-ascent"
    assert notes[0] == (
        "auto: took gradient-ascent, the first to meet the standards; judged on held-out data and a retrained model, "
        "cheapest first"
    )
    assert notes[1] == "auto: fine-tune refused: not this"
    assert len(notes) == 3


def test_if_every_method_refuses_all_reasons_are_given(tried):
    found = {"fine-tune": InputError("not this"), "gradient-ascent": InputError("nor that")}
    with pytest.raises(
        InputError, match=r"^no method could be applied: fine-tune: not this; gradient-ascent: nor that$"
    ):
        tried(CLASS_0, found)


def test_standards_can_be_set(tried):
    half = answering(1, 1, 1)
    assert "meets" in tried(CLASS_0, {"fine-tune": half}, standards=Standards(kept=0.5))[1][1]
    assert "misses them by 0.100" in tried(CLASS_0, {"fine-tune": half}, standards=Standards(kept=0.4))[1][1]
    known = answering(*RIGHT)
    assert "misses them by 0.300" in tried(CLASS_0, {"fine-tune": known}, standards=Standards(forgotten=0.7))[1][1]
