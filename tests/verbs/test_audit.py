"""Audits of all requests of a sequence: what each forgot is asked about again, against one that lacks all of it."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.record import weights_sha256
from efface.auditing.result import Audit
from efface.auditing.settings import AuditSettings
from efface.data import Data
from efface.errors import InputError
from efface.models.predictions import accuracy_of
from efface.models.spec import ModelSpec
from efface.references import train_references
from efface.request import Request
from efface.training.recipe import Recipe

MODEL = ModelSpec(build="mlp", arguments={"hidden": [16]})
QUICK = AuditSettings(few_draws=2, resamples=100, relearn_cap=5, probe_per_class=20)
ITEMS = Request(items=tuple(range(0, 90, 2)), reason="a person asked")
BRIEF = {"epochs": 0.5, "lr": 0.01}


@pytest.fixture(scope="module")
def digits() -> Data:
    return efface.load_data("digits")


@pytest.fixture(scope="module")
def chain(digits) -> list[Artifact]:
    """An original that has served three requests: items, a class that holds some of them, another class."""
    made = [efface.train(MODEL, digits, recipe=Recipe(lr=0.1, epochs=10, batch_size=64), device="cpu")]
    for request, method, settings in (
        (ITEMS, "fine-tune", BRIEF),
        (Request(classes=(3,)), "logit-mask", {}),
        (Request(classes=(5,)), "logit-mask", {}),
    ):
        made.append(efface.forget(made[-1], digits, request, method=method, settings=settings, device="cpu"))
    return made


def audited(model, digits, **more) -> Audit:
    return efface.audit(model, digits, all_requests=True, settings=QUICK, device="cpu", **more)


@pytest.fixture(scope="module")
def found(chain, digits) -> Audit:
    """A reference is retrained from the last model but one, as `efface forget --method retrain` does."""
    retrained = efface.forget(chain[2], digits, Request(classes=(5,)), method="retrain", device="cpu")
    return audited(chain[3], digits, retrained=retrained, steps=[chain[1]])


def test_every_request_is_asked_about_with_what_it_forgot_then(found, chain):
    assert [s.text for s in found.sequence] == ["45 items", "class 3", "class 5"]
    assert [s.step for s in found.sequence] == [1, 2, 3]
    assert [s.method for s in found.sequence] == ["fine-tune", "logit-mask", "logit-mask"]
    assert [s.records for s in found.sequence] == [c.record.counts.forgotten for c in chain[1:]]
    assert [s.fingerprint for s in found.sequence] == [c.record.request_fingerprint for c in chain[1:]]
    assert found.request_text == "class 5"
    assert found.level == "b"


def test_shares_are_those_of_the_models_themselves(found, chain, digits):
    first = found.sequence[0]
    part = efface.data.Split.of(digits, ITEMS, 0.1, chain[0].record.data.split_seed).forget
    for share, artifact in ((first.original, chain[0]), (first.then, chain[1]), (first.now, chain[3])):
        assert share == pytest.approx(accuracy_of(artifact.model, part))
    assert [s.then for s in found.sequence[1:]] == [None, found.sequence[2].now]
    assert [s.now for s in found.sequence[1:]] == [0, 0]
    assert [s.retrained for s in found.sequence[1:]] == [0, 0]
    assert all(s.original > 0.5 for s in found.sequence)


def test_knowledge_that_comes_back_is_seen(chain, digits):
    """A last step that forgets its own class and hands the one before back."""
    last = chain[3]
    model = copy.deepcopy(last.model)
    head, before = ([p for n, p in m.named_parameters() if n.endswith("bias")][-1] for m in (model, chain[0].model))
    assert head[3] < -1e3  # the mask
    with torch.no_grad():
        head[3] = before[3]
    record = last.record.model_copy(update={"weights_after": weights_sha256(model.state_dict())})
    found = audited(Artifact(model, record, parent=chain[2]), digits)
    assert found.verdict.answer != "no"
    assert [s.answer for s in found.sequence][1] == "no"
    assert found.sequence[1].now > 0.5
    assert found.answer == "no"


def test_one_request_is_a_sequence_too(chain, digits):
    found = audited(chain[1], digits)
    assert [s.step for s in found.sequence] == [1]
    assert found.sequence[0].now == found.sequence[0].then


def test_a_folder_of_references_serves_every_request(chain, digits, tmp_path):
    references = train_references(chain[1], digits, Request(classes=(3,)), 1, tmp_path / "r", backend="serial")
    found = audited(chain[2], digits, original=chain[0], retrained=references)
    assert [s.retrained is not None for s in found.sequence] == [True, True]
    again = efface.audit(chain[2], digits, ITEMS, original=chain[0], retrained=references, settings=QUICK, device="cpu")
    assert again.row("retrained")["forget_accuracy"].value == found.sequence[0].retrained


def test_a_reference_that_saw_what_an_earlier_request_named_is_refused(chain, digits):
    saw = efface.forget(chain[0], digits, Request(classes=(3,)), method="retrain", device="cpu")
    for audit in (audited, efface.audit):
        with pytest.raises(
            InputError, match=r"different: request \(class 3 instead of class 3 and 4\d records of other"
        ):
            audit(chain[2], digits, original=chain[0] if audit is audited else chain[1], retrained=saw)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"original": 2}, "the model before the first of them"),
        ({"steps": [0]}, "none of this artifact's chain"),
        ({"request": ITEMS}, "leave the request out"),
        ({"model": 0, "request": ITEMS, "original": 0}, "only an artifact that has served requests"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(chain, digits, change, named, monkeypatch):
    monkeypatch.setattr("efface.verbs.audit._assessed", lambda *_, **__: pytest.fail("worked in vain"))
    given = {"model": 3, "original": 0, **change}
    given["steps"] = [chain[k] for k in given.get("steps", ())]
    model, original = chain[given.pop("model")], chain[given.pop("original")]
    with pytest.raises(InputError, match=named):
        audited(model, digits, original=original, **given)


def test_steps_and_originals_go_with_all_requests(chain, digits):
    with pytest.raises(InputError, match="all_requests=True"):
        efface.audit(chain[3], digits, steps=[chain[1]])
    alone = dataclasses.replace(chain[3], parent=None)
    with pytest.raises(InputError, match="before the first request"):
        audited(alone, digits)


def test_items_after_a_class_are_matched_with_unseen_records_of_kept_classes(chain, digits):
    made = efface.forget(chain[2], digits, Request(items=tuple(range(1, 90, 2))), method="fine-tune", settings=BRIEF)
    found = efface.audit(made, digits, settings=QUICK, device="cpu")
    assert found.row("fine-tune")["population_auc"].measured
    assert found.counts["test_retain"] < len(digits.test)
