"""The models of an audit; what is no reference is refused before anything is trained or measured."""

import copy
import dataclasses

import pytest

import efface
from efface.artifact.case import Case
from efface.data import load
from efface.errors import InputError
from efface.models.spec import ModelSpec
from efface.references.rows import rows_of
from efface.request import Request
from efface.training.recipe import Recipe

REQUEST = Request(classes=(3,))


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    spec = ModelSpec(build="mlp", arguments={"hidden": [16]})
    return efface.train(spec, digits, recipe=Recipe(epochs=3, lr=0.05), device="cpu")


def test_rows_have_their_roles_times_and_records(digits, trained):
    forgotten = efface.forget(trained, digits, REQUEST, method="fine-tune", device="cpu")
    case = Case.of(trained, digits, REQUEST, device="cpu", known=forgotten.record)
    rows = rows_of(forgotten, case, retrained=True, others={"copy": trained.model})
    assert [(row.name, row.role) for row in rows] == [
        ("original", "original"),
        ("retrained", "retrained"),
        ("retrained for as long", "baseline"),
        ("logit mask", "baseline"),
        ("copy", "other"),
        ("fine-tune", "candidate"),
    ]
    assert rows.candidate.seconds == forgotten.record.seconds["forget"]
    assert rows["copy"].seconds is None
    assert rows.original.seconds is None
    assert rows.retrained.record.request == REQUEST
    assert rows.level == "b"


def test_two_rows_of_one_name_are_refused(digits, trained):
    case = Case.of(trained, digits, REQUEST, device="cpu")
    with pytest.raises(InputError, match="Two rows are called 'original'"):
        rows_of(copy.deepcopy(trained.model), case, others={"original": trained.model})


@pytest.mark.parametrize("many", [False, True])
def test_the_original_is_no_reference_for_itself(digits, trained, many):
    case = Case.of(trained, digits, REQUEST, device="cpu")
    same = copy.deepcopy(trained.model)
    with pytest.raises(InputError, match="a retrained model is the original itself"):
        rows_of(trained.model, case, retrained=[same, same] if many else same)


def test_retraining_for_no_epoch_is_refused(digits, trained):
    none = Recipe(epochs=0)
    case = Case.of(trained.model, digits, REQUEST, device="cpu", recipe=none)
    with pytest.raises(InputError, match=r"trains for 0 epochs.*how the original was trained"):
        rows_of(trained.model, case, retrained=True)
    made = efface.forget(trained, digits, REQUEST, method="retrain", device="cpu")
    untrained = dataclasses.replace(made, record=made.record.model_copy(update={"recipe": none}))
    with pytest.raises(InputError, match="trains for 0 epochs"):
        rows_of(trained.model, Case.of(trained, digits, REQUEST, device="cpu"), retrained=untrained)
    # Without a reference it may be audited, and one of your own may be given.
    assert rows_of(trained.model, case).level == "a"
    assert rows_of(trained.model, case, retrained=made.model).level == "b"
