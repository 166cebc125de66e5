"""Training with canaries: the record knows them, and every later step finds them again from the plain data."""

from __future__ import annotations

import numpy as np
import pytest

import efface
from efface.artifact.compatible import as_trained
from efface.errors import InputError
from efface.methods.applying import rebuilt

RECIPE = efface.Recipe(lr=0.1, epochs=2, batch_size=64)
NETWORK = efface.ModelSpec(build="mlp", arguments={"hidden": [16]})


@pytest.fixture(scope="module")
def data() -> efface.Data:
    return efface.load_data("digits")


@pytest.fixture(scope="module")
def original(data: efface.Data) -> efface.Artifact:
    return efface.train(NETWORK, data, recipe=RECIPE, canaries=20, device="cpu")


def _planted(original, data):
    return as_trained(original.record, data)


def test_the_record_says_how_they_were_made_and_the_plain_data_is_enough_later(data, original, tmp_path):
    assert original.record.data.canaries.count == 20
    assert original.record.data.train_size == len(data.train) + 20
    read = efface.Artifact.load(original.save(tmp_path / "original"), rebuild=rebuilt)
    request = efface.Request(items=(1, 2), canaries=True)
    forgotten = efface.forget(read, data, request, method="fine-tune", device="cpu")
    assert forgotten.record.counts.canaries == 20
    found = efface.verify(forgotten.save(tmp_path / "forgotten"), read, data)
    assert {f.outcome for f in found.findings if f.subject in {"data", "request"}} == {"holds"}


def test_what_a_request_does_not_name_stays_and_is_said(data, original):
    free = next(i for i in range(1347) if i not in set(_planted(original, data).canaries.sources.tolist()))
    forgotten = efface.forget(original, data, efface.Request(items=(free,)), method="retrain", device="cpu")
    assert any("20 canaries of training stay in the model" in note for note in forgotten.record.notes)
    chained = efface.forget(
        forgotten, data, efface.Request(items=(free + 1,), canaries=True), method="fine-tune", device="cpu"
    )
    assert not any("stay in the model" in note for note in chained.record.notes)


def test_references_never_saw_the_canaries_asked_for_and_others_do_not_fit(data, original, tmp_path):
    named, unnamed = efface.Request(items=(1, 2), canaries=True), efface.Request(items=(1, 2))
    made = efface.train_references(original, data, named, 1, tmp_path / "named", backend="serial", device="cpu")
    assert np.isin(np.arange(1347, 1367), named.resolve(_planted(original, data)).indices).all()
    forgotten = efface.forget(original, data, unnamed, method="fine-tune", device="cpu")
    with pytest.raises(InputError, match="request"):
        efface.audit(forgotten, data, retrained=made, device="cpu")


def test_bad_input(data, original):
    plain = efface.train(NETWORK, data, recipe=RECIPE, device="cpu")
    with pytest.raises(InputError, match="without any"):
        efface.forget(plain, data, efface.Request(items=(1,), canaries=True), method="fine-tune", device="cpu")
    with pytest.raises(InputError, match="trained from the start"):
        efface.train(original, data, canaries=20)
    with pytest.raises(InputError, match="a tenth"):
        efface.train(NETWORK, data, recipe=RECIPE, canaries=500)


def test_training_without_them_is_as_it_was(data):
    """No random number is drawn for canaries that nobody asked for."""
    again = [efface.train(NETWORK, data, recipe=RECIPE, device="cpu") for _ in range(2)]
    assert again[0].record.weights_after == again[1].record.weights_after
    assert again[0].record.data.canaries is None


def test_a_class_goes_with_its_canaries(data, original):
    forgotten = efface.forget(original, data, efface.Request(classes=(3,)), method="fine-tune", device="cpu")
    assert forgotten.record.counts.canaries > 0
    audit = efface.audit(forgotten, data, retrained=True, device="cpu")
    assert audit.verdict.outcome in {"alike", "differs"}
