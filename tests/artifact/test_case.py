"""A case: data, split, seeds and the artifact belong together, however the original was handed over."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

import efface
from efface.artifact.case import Case, asked_seed, step_seed
from efface.artifact.record import weights_sha256
from efface.errors import InputError
from efface.running.seeding import seeded

RECIPE = efface.Recipe(lr=0.1, epochs=1, batch_size=128, seed=5, precision="bf16-mixed")
FIRST, SECOND = efface.Request(items=(1, 2, 3)), efface.Request(items=(8, 9))


@pytest.fixture(scope="module")
def data() -> efface.Data:
    return efface.load_data("digits")


@pytest.fixture(scope="module")
def original(data: efface.Data) -> efface.Artifact:
    with seeded(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return efface.train(network, data, recipe=RECIPE, validation=0.2, device="cpu")


def test_an_artifact_brings_recipe_held_out_part_and_precision(data, original):
    case = Case.of(original, data, FIRST, seed=3, validation=0.7, recipe=efface.Recipe(seed=99), device="cpu")
    assert case.original is original
    assert case.run.seed == 5 + 1 + 3
    assert case.run.precision == "bf16-mixed"
    assert (case.split.validation_fraction, case.split.seed) == (0.2, 5)
    assert case.split.request == FIRST


def test_a_module_is_copied_and_recorded_as_given(data, original):
    case = Case.of(original.model, data, FIRST, recipe=RECIPE, validation=0.3, device="cpu")
    assert case.original.model is not original.model
    assert case.original.record.action == "given"
    assert case.original.record.weights_after == weights_sha256(original.model.state_dict())
    assert (case.split.validation_fraction, case.split.seed, case.run.seed) == (0.3, 5, 6)


def test_what_earlier_requests_named_is_gone(data, original):
    once = efface.forget(original, data, FIRST, method="gradient-ascent", device="cpu")
    case = Case.of(once, data, SECOND, device="cpu")
    assert np.isin(FIRST.items, case.split.gone).all()
    with pytest.raises(InputError, match="already forgotten"):
        Case.of(once, data, FIRST, device="cpu")
    # An audit of what was made by the request: its own request is not an earlier one, whatever the original knows.
    audited = Case.of(original.model, data, FIRST, known=once.record, device="cpu")
    assert len(audited.split.gone) == 0
    assert (audited.split.validation_fraction, audited.run.seed) == (0.2, 6)


def test_other_data_is_refused(data, original):
    other = efface.load_data("digits", test_fraction=0.3)
    with pytest.raises(InputError, match="not the data"):
        Case.of(original, other, FIRST, device="cpu")


@pytest.mark.parametrize("asked", [0, 7])
def test_the_seed_of_a_step_is_never_the_training_seed_and_can_be_read_back(asked):
    assert step_seed(RECIPE, asked) > RECIPE.seed
    assert asked_seed(RECIPE, step_seed(RECIPE, asked)) == asked


def test_a_child_differs_in_history_and_seed_only(data, original):
    case = Case.of(original, data, FIRST, device="cpu")
    child = case.child(77)
    child.run.note("mine")
    assert (child.run.seed, child.split, child.original) == (77, case.split, case.original)
    assert case.run.notes == []


def test_an_earlier_request_is_looked_at_again_whoever_asked_for_it(data, original):
    once = efface.forget(original, data, FIRST, method="gradient-ascent", device="cpu")
    twice = efface.forget(once, data, SECOND, method="gradient-ascent", device="cpu")
    again = FIRST.model_copy(update={"reason": "asked again", "ticket": "8", "requested_by": "a person"})
    case = Case.of(original, data, again, known=twice.record, device="cpu")
    then = Case.of(original, data, FIRST, known=once.record, device="cpu")
    assert case.split.forget.indices.tolist() == then.split.forget.indices.tolist()
    assert case.split.gone.tolist() == list(SECOND.items)
    assert [twice.record.step_of(r) for r in (again, SECOND, efface.Request(items=(4,)))] == [0, 1, None]
    known = [a.record.weights_after for a in (original, once, twice)]
    assert twice.record.unserved(again) == {known[0]}
    assert twice.record.unserved(SECOND) == set(known[:2])
