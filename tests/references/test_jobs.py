"""Jobs of references: their names, what they refuse, and which steps make them; nothing is trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import given
from efface.auditing.measures.u_lira import Role
from efface.data import Data, Split, load
from efface.errors import InputError, UnsupportedRequestError
from efface.references import jobs as module
from efface.references.jobs import Repeat, Retraining, Shadow
from efface.references.shadows import roles_in
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

RECIPE = Recipe(epochs=1, seed=3)
ITEMS = Request(items=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def original(digits) -> Artifact:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return given(model, Split.of(digits, None, 0.1, 3), RECIPE, Run(seed=1, device="cpu"))


@pytest.fixture(scope="module")
def split(digits) -> Split:
    return Split.of(digits, ITEMS, 0.1, 3)


def step(original: Artifact, action: str, method: str, **changes):
    return original.record.model_copy(update={"action": action, "method": method, **changes})


def test_folders_are_series_and_numbers():
    assert [Retraining(k, 0).folder for k in (0, 12, 1234)] == ["reference-000", "reference-012", "reference-1234"]
    assert Repeat(3, 0, "ssd").folder == "unlearned-ssd-003"
    assert (Shadow(3, 0, "ssd").folder, Shadow(3, 0, "ssd").series) == ("shadow-ssd-003", "shadow-ssd")
    assert (Repeat(3, 0, "ssd").settings, Shadow(3, 0, "ssd").out, Shadow(3, 0, "ssd").unlearned) == ({}, (), ())


def test_what_cannot_be_done_is_refused_before_any_work(original, split):
    Retraining(0, 0).check(original, split)
    Repeat(0, 0, "ssd").check(original, split)
    Shadow(0, 0, "ssd", out=(1,), unlearned=(2,)).check(original, split)
    with pytest.raises(InputError, match="no hyper-parameter 'alfa'"):
        Repeat(0, 0, "ssd", {"alfa": 1}).check(original, split)
    with pytest.raises(InputError, match="no hyper-parameter 'alfa'"):
        Shadow(0, 0, "ssd", {"alfa": 1}, out=(1,), unlearned=(2,)).check(original, split)
    with pytest.raises(UnsupportedRequestError, match="logit-mask"):
        Repeat(0, 0, "logit-mask").check(original, split)
    served = dataclasses.replace(original, record=step(original, "forget", "ssd", request=ITEMS))
    with pytest.raises(InputError, match="the model has already served requests; runs of its method can be repeated"):
        Repeat(0, 0, "ssd").check(served, Split.of(split.data, Request(items=(9,)), 0.1, 3, (ITEMS,)))
    for method, why in (("logit-mask", "forgets whole classes only"), ("amnesiac", "needs ")):
        with pytest.raises(UnsupportedRequestError, match=f"{method} {why}.*Use repeats of the whole request instead"):
            Shadow(0, 0, method, out=(1,), unlearned=(2,)).check(original, split)
    for out, unlearned in (((), (2,)), ((1,), ())):
        with pytest.raises(InputError, match="4 records are too few to be dealt out in thirds to shadow models"):
            Shadow(0, 0, "ssd", out=out, unlearned=unlearned).check(original, split)


def test_a_repeat_goes_through_each_training_step_of_the_original_and_then_forgets(original, split, monkeypatch):
    first = step(original, "train", "mnemonic", settings={"steps": 2}, recipe=RECIPE.but(epochs=5), kept=("means",))
    second = step(original, "train", "plain", recipe=RECIPE.but(epochs=6), parent=first)
    twice = dataclasses.replace(original, record=second)
    trained, runs = [], []

    def prepare(method, model, whole, recipe, run, *, spec, parent, keep):
        trained.append((method and (method.name, method.steps), recipe.epochs, spec, parent, keep, model))
        runs.append(run.seed)
        assert whole.request is None
        assert (whole.validation_fraction, whole.seed) == (0.1, 3)
        return dataclasses.replace(original, model=nn.Linear(1, 1))

    monkeypatch.setattr(module, "prepare", prepare)
    monkeypatch.setattr(module, "apply", lambda method, case: (method.name, method.alpha, case))
    run = Run(seed=9, device="cpu")
    name, alpha, case = Repeat(0, 9, "ssd", {"alpha": 4.0}).make(twice, split, run)
    assert [t[:3] for t in trained] == [(("mnemonic", 2), 5.0, None), (None, 6.0, None)]
    assert [t[4] for t in trained] == [("means",), ()]
    assert trained[0][3] is None
    assert trained[1][3] is not None
    assert trained[1][5] is trained[1][3].model
    fresh = trained[0][5]
    assert not torch.equal(fresh[1].weight, original.model[1].weight)
    assert (name, alpha, case.split) == ("ssd", 4.0, split)
    assert len({*runs, case.run.seed, 9}) == 4
    # Of a model that Efface did not train, its recipe is all that is known.
    trained.clear()
    Repeat(0, 9, "ssd").make(original, split, run)
    assert [t[:2] for t in trained] == [(None, 1.0)]


def test_a_shadow_model_is_retrained_without_some_records_and_unlearns_others(original, split, monkeypatch):
    earlier = Request(items=(8, 9))
    served = dataclasses.replace(original, record=step(original, "forget", "ssd", request=earlier))
    cases = []

    def apply(method, case):
        cases.append((method.name, case))
        return dataclasses.replace(original, record=step(original, "forget", method.name, request=case.split.request))

    monkeypatch.setattr(module, "apply", apply)
    Shadow(0, 9, "ssd", {"alpha": 4.0}, out=(1, 2), unlearned=(3,)).make(served, split, Run(seed=9, device="cpu"))
    (first, retraining), (second, forgetting) = cases
    assert (first, second) == ("retrain", "ssd")
    assert retraining.original is served
    assert retraining.split.request == Request(items=(1, 2), reason="U-LiRA")
    assert forgetting.split.request == Request(items=(3,), reason="U-LiRA")
    assert set(retraining.split.gone.tolist()) == {8, 9}
    for case in (retraining, forgetting):
        assert (case.split.validation_fraction, case.split.seed) == (0.1, 3)
    assert set(forgetting.split.gone.tolist()) == {1, 2, 8, 9}
    assert forgetting.original.record.method == "retrain"
    assert (retraining.run.seed, forgetting.run.seed != 9) == (9, True)


def test_roles_are_read_from_a_shadow_models_own_record(original):
    items = torch.tensor([5, 1, 2, 3])
    out = step(original, "forget", "retrain", request=Request(items=(1, 7)))
    both = step(original, "forget", "ssd", request=Request(items=(3, 5)), parent=out)
    assert roles_in(both, items).tolist() == [Role.UNLEARNED, Role.OUT, Role.IN, Role.UNLEARNED]
    assert roles_in(both, items).dtype == torch.int8
    assert roles_in(original.record, items).tolist() == [Role.IN] * 4
    assert roles_in(step(original, "forget", "ssd", request=Request(items=(2,))), items).tolist() == [
        0,
        0,
        Role.UNLEARNED,
        0,
    ]
    assert np.unique([int(r) for r in Role]).size == 3
