"""Measures of the user's own, and methods by instance, in plans."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from efface.artifact.case import Case
from efface.comparing.own import OwnMeasure, measured, own_measures
from efface.comparing.plan import Entry, Plan, Preparation
from efface.data import load
from efface.errors import InputError
from efface.methods.ssd import SSD
from efface.request import Request


def weights(model, case):
    """Number of the model's parameters.

    And a second line.
    """
    return sum(p.numel() for p in model.parameters())


def in_vain(model, case):
    return 0.0


def retain_accuracy(model, case):
    """Called like another score."""
    return 0.0


def outcome(model, case):
    """Called like another column."""
    return 0.0


pytestmark = pytest.mark.filterwarnings("ignore:the model as given gets")

WEIGHTS = f"{__name__}:weights"


def plan(**fields):
    given = {"name": "p", "data": {"source": "digits"}, "model": {"build": "mlp"}, "requests": [{"classes": [3]}]}
    return Plan.model_validate({**given, "methods": [{"method": "logit-mask"}], **fields})


def test_a_function_is_written_as_its_path_and_read_back():
    made = plan(measures=["accuracy", weights])
    assert made.measures == ("accuracy", WEIGHTS)
    assert Plan.model_validate_json(made.model_dump_json()) == made
    (own,) = own_measures(made.measures)
    assert (own.name, own.meaning, own.function) == ("weights", "Number of the model's parameters", weights)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("acuracy", "Did you mean 'accuracy'"),
        (lambda model, case: 1.0, "top level"),
    ],
)
def test_unknown_measures_are_refused_when_the_plan_is_read(given, why):
    with pytest.raises(ValueError, match=why):
        plan(measures=[given])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (f"{__name__}:in_vain", "no docstring"),
        (f"{__name__}:retain_accuracy", "another column"),
        (f"{__name__}:outcome", "another column"),
        (f"{__name__}:WEIGHTS", "not a function"),
        (f"{__name__}:nothing", "no attribute"),
    ],
)
def test_functions_that_cannot_be_a_column_are_refused(path, why):
    with pytest.raises(InputError, match=why):
        own_measures([path])


@pytest.mark.parametrize("value", [3, 0.5, torch.tensor(0.5), torch.tensor([2.0])])
def test_one_number_is_a_score(value):
    assert one(lambda model, case: value).value == float(value)


@pytest.mark.parametrize("value", [None, "0.5", True, torch.zeros(2), [0.5]])
def test_anything_else_is_refused(value):
    with pytest.raises(InputError, match="needed: one number"):
        one(lambda model, case: value)


def test_what_is_not_finite_is_not_assessed():
    assert not one(lambda model, case: math.nan).measured


def test_a_measure_may_ruin_its_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def ruin(given, case):
        assert not given.training
        given[1].weight.data.zero_()
        return 0.0

    before = model[1].weight.clone()
    one(ruin, model)
    assert torch.equal(model[1].weight, before)


def one(function, model=None):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) if model is None else model
    case = Case.of(model, load("digits"), Request(classes=(3,)), device="cpu")
    return measured([OwnMeasure("m:f", function, "")], model, case)[function.__name__]


def test_instances_are_written_as_name_and_settings():
    entry = Entry(method=SSD(alpha=7.0))
    assert (entry.method, entry.settings["alpha"]) == ("ssd", 7.0)
    assert Preparation(method=SSD()).method == "ssd"
    assert plan(methods=[{"method": SSD()}, {"method": SSD(), "label": "again"}]).cells()
    with pytest.raises(ValueError, match="an instance already has its own"):
        Entry(method=SSD(), settings={"alpha": 1})
