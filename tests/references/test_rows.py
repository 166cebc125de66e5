"""The models of an audit; what is no reference is refused before anything is trained or measured."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.data import Split, load
from efface.errors import InputError
from efface.models.spec import ModelSpec
from efface.references import References
from efface.references import rows as module
from efface.references.manifest import Manifest
from efface.references.rows import references_of, rows_of
from efface.request import Request
from efface.running.run import Run
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


# --- without training -----------------------------------------------------------------------------------------------


@pytest.fixture
def untrained(digits):
    """A case whose model nobody trained: quick, and as good for saying which rows there are."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    run = Run(seed=1, device="cpu")
    return Case(given(model, Split.of(digits), Recipe(epochs=1), run), Split.of(digits, REQUEST), run)


@pytest.fixture
def applied(monkeypatch, untrained):
    """What methods were applied to which runs; each "makes" a bare copy in two seconds."""
    calls = []

    def apply(method, case):
        calls.append((method.name, case.run.seed))
        assert case.run.history is not untrained.run.history
        return made_by(untrained, method.name, seconds={"forget": 2.0})

    monkeypatch.setattr(module, "apply", apply)
    monkeypatch.setattr(module, "retrained_as_long", lambda *given: calls.append(("as long", *given)) or "no time")
    return calls


def made_by(case, method, *, weights="other", **changes):
    """An artifact as a method would have made it."""
    record = case.original.record.model_copy(
        update={
            "action": "forget", "method": method, "request": REQUEST, "weights_after": weights,
            "weights_before": case.original.record.weights_after, "parent": case.original.record, **changes,
        }
    )  # fmt: skip
    return Artifact(copy.deepcopy(case.original.model), record, {})


def names(rows):
    return [row.name for row in rows]


def test_baselines_are_made_but_for_what_is_audited(applied, untrained, monkeypatch):
    rows = rows_of(untrained.original.model, untrained)
    assert names(rows) == ["original", "fine-tuned", "logit mask", "candidate"]
    assert applied == [("fine-tune", 1), ("logit-mask", 1)]
    assert (rows["logit mask"].seconds, rows["logit mask"].record.method) == (2.0, "logit-mask")
    assert (rows.candidate.record, rows.candidate.seconds) == (None, None)
    assert names(rows_of(made_by(untrained, "logit-mask"), untrained)) == ["original", "fine-tuned", "logit-mask"]
    assert names(rows_of(made_by(untrained, "fine-tune"), untrained)) == ["original", "logit mask", "fine-tune"]
    applied.clear()
    bare = rows_of(made_by(untrained, "ssd"), untrained, retrained=made_by(untrained, "retrain"), baselines=False)
    assert (names(bare), applied, bare.notes) == (["original", "retrained", "ssd"], [], ())
    items = dataclasses.replace(untrained, split=Split.of(untrained.split.data, Request(items=(1, 2))))
    assert names(rows_of(untrained.original.model, items)) == [
        "original",
        "fine-tuned",
        "candidate",
    ]  # no class to mask

    def refuses(method, case):
        raise InputError("no head")

    monkeypatch.setattr(module, "apply", refuses)
    assert rows_of(untrained.original.model, untrained).notes == (
        "the row 'fine-tuned' is not assessed: no head",
        "the row 'logit mask' is not assessed: no head",
    )


def test_several_retrained_models_are_numbered_and_the_first_is_a_row(applied, untrained):
    several = [made_by(untrained, "retrain", weights=str(k), seconds={"forget": float(k)}) for k in range(3)]
    rows = rows_of(made_by(untrained, "ssd"), untrained, retrained=several)
    assert names(rows)[:2] == ["original", "retrained"]
    assert [(r.name, r.role, r.seconds) for r in rows.further] == [
        ("retrained 2", "retrained", 1.0),
        ("retrained 3", "retrained", 2.0),
    ]
    assert rows.retrained.seconds == 0.0
    for row in (rows.original, rows.retrained, rows.candidate):
        assert row.model is not untrained.original.model


def test_the_row_of_retraining_for_as_long_rests_on_the_candidates_record(applied, untrained):
    candidate = made_by(untrained, "ssd")
    rows = rows_of(candidate, untrained, retrained=made_by(untrained, "retrain"))
    assert applied[-1] == ("as long", untrained, candidate.record, None)
    assert rows.notes == ("the row 'retrained for as long' is not measured: no time",)
    rows_of(candidate.model, untrained, retrained=made_by(untrained, "retrain"))
    assert applied[-1] == ("as long", untrained, None, None)
    trained_on = made_by(untrained, "plain", action="train")  # an artifact that is no method's
    assert rows_of(trained_on, untrained, retrained=made_by(untrained, "retrain")).candidate.name == "candidate"
    assert applied[-1][2] is None


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("serves", [True, False])
def test_a_folder_of_references_gives_its_models_repeats_and_place(keep, serves, applied, untrained, monkeypatch):
    monkeypatch.setattr(References, "check", lambda self, original, split: applied.append(("checked", original, split)))
    monkeypatch.setattr(
        References, "__iter__", lambda _: iter([made_by(untrained, "retrain"), made_by(untrained, "retrain")])
    )
    repeat = made_by(untrained, "ssd", seconds={"forget": 7.0})
    monkeypatch.setattr(References, "unlearned", lambda _, *asked: applied.append(asked) or [repeat])
    split = untrained.split if serves else Split.of(untrained.split.data, Request(classes=(4,)))
    folder = References(Path("x"), Manifest.of(untrained.original.record, split, 0), keep_answers=keep)
    candidate = made_by(untrained, "ssd", settings={"alpha": 2})
    rows = rows_of(candidate, untrained, retrained=folder)
    assert [r.name for r in rows.further] == ["retrained 2"]
    assert applied[0] == ("checked", untrained.original.record, untrained.split)
    assert applied[-1][-1] is (folder if keep else None)
    assert [(r.name, r.role, r.seconds) for r in rows.repeats] == ([("ssd", "candidate", 7.0)] if serves else [])
    assert (("ssd", {"alpha": 2}) in applied) == serves
    assert rows_of(candidate.model, untrained, retrained=folder).repeats == ()


def test_an_original_that_forgetting_did_not_start_from_is_refused(applied, untrained):
    before = untrained.original.record.weights_after
    with pytest.raises(InputError) as error:
        rows_of(made_by(untrained, "ssd", weights_before="f" * 64), untrained)
    assert str(error.value) == (
        "this original is not the model that forgetting started from, nor one before it (SHA-256 "
        f"{before[:12]}..., recorded ffffffffffff...)"
    )
    # A second request: the original may be what was there before both, which the audit says.
    first = made_by(untrained, "ssd", request=Request(classes=(5,)), weights="1" * 64)
    second = made_by(untrained, "ssd", weights_before="1" * 64, parent=first.record)
    assert rows_of(second, untrained).notes == (
        "the original is a model before several requests of this artifact, not only before this one",
    )
    assert rows_of(made_by(untrained, "ssd"), untrained).notes == ()


def test_true_trains_one_with_the_cases_seed_and_false_none(applied, untrained):
    (made,) = references_of(True, untrained)
    assert (made.record.method, applied) == ("retrain", [("retrain", 1)])
    assert references_of(False, untrained) == []
    assert len(applied) == 1


def test_a_module_of_ones_own_becomes_a_reference(untrained):
    module_of_mine = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (made,) = references_of(module_of_mine, untrained)
    assert (made.record.action, made.record.recipe) == ("given", untrained.original.record.recipe)
    assert torch.equal(made.model[1].weight, module_of_mine[1].weight)
    two = references_of([module_of_mine, made_by(untrained, "retrain")], untrained)
    assert [r.record.action for r in two] == ["given", "forget"]
    with pytest.raises(InputError, match="the retrained model does not fit this audit; different: method"):
        references_of(made_by(untrained, "ssd"), untrained)
