"""What `forget` says about its own result: every record counted, a model that has not forgotten is no result."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import efface
from efface.auditing.settings import AuditSettings
from efface.data import Split
from efface.errors import ForgettingWarning, InputError
from efface.running.seeding import seeded
from efface.verbs.forget import kept_accuracy

RECIPE = efface.Recipe(lr=0.1, epochs=6, batch_size=64)
CLASS = efface.Request(classes=(4,))


@pytest.fixture(scope="module")
def data() -> efface.Data:
    return efface.load_data("digits")


@pytest.fixture(scope="module")
def original(data: efface.Data) -> efface.Artifact:
    with seeded(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return efface.train(network, data, recipe=RECIPE, validation=0, device="cpu")


def quiet(model, data, request, method, **settings):
    with warnings.catch_warnings(action="ignore", category=ForgettingWarning):
        return efface.forget(model, data, request, method=method, settings=settings, device="cpu", recipe=RECIPE)


def test_of_a_handed_over_model_every_record_asked_for_is_forgotten(data, original):
    """It was trained on all data: nothing is held out unless someone says so."""
    rows = range(100, 140)
    made = quiet(original.model, data, efface.Request(items=rows), "gradient-ascent")
    assert made.record.data.validation == 0
    assert (made.record.counts.asked, made.record.counts.forgotten) == (40, 40)


def test_whoever_holds_out_is_asked_whether_the_model_saw_the_records(data, original):
    request = efface.Request(items=range(100, 140))
    held_out = Split.of(data, request, 0.1, RECIPE.seed).held_out
    unseen = int(np.isin(held_out, request.items).sum())
    assert unseen > 0
    given = {"method": "gradient-ascent", "recipe": RECIPE, "validation": 0.1, "device": "cpu"}
    with pytest.warns(ForgettingWarning, match=rf"never trained on {unseen} of the 40 records.*validation=0"):
        made = efface.forget(original.model, data, request, **given)
    assert made.record.counts.untrained == unseen
    assert made.record.counts.forgotten == 40 - unseen
    assert any("Is that so?" in note for note in made.record.notes)


def test_an_unchanged_model_is_a_failure_and_warned_about(data, original):
    with pytest.warns(ForgettingWarning, match="nothing was done: the weights are the original's"):
        made = efface.forget(original, data, CLASS, method="ssd", settings={"alpha": float("inf")}, device="cpu")
    assert made.record.weights_before == made.record.weights_after
    assert any("the model is unchanged" in text for text in made.record.failures)
    assert set(made.record.failures) <= set(made.record.notes)


def test_a_hardly_changed_model_is_still_recognised(data, original):
    with pytest.warns(ForgettingWarning, match=r"still recognised: .* of the \d+ records"):
        made = efface.forget(original, data, CLASS, method="random-labels", settings={"lr": 1e-9}, device="cpu")
    x, y = Split.of(data, CLASS, 0.0).forget.tensors()
    right = [float((m(x).argmax(1) == y).float().mean()) for m in (original.model, made.model)]
    found = made.record.recognition
    assert found.still
    assert (found.of, found.size) == ("records", len(y))
    assert [found.before, found.after] == pytest.approx(right)


def test_a_model_that_forgot_raises_no_warning(data, original):
    with warnings.catch_warnings(action="error"):
        made = efface.forget(original, data, CLASS, method="gradient-ascent", device="cpu")
    assert made.record.failures == ()
    assert made.record.recognition.after < made.record.recognition.before / 2


def test_single_records_may_be_recognised_for_a_retrained_model_would_too(data, original):
    made = quiet(original, data, efface.Request(items=(1, 2, 3)), "random-labels", lr=1e-9)
    assert made.record.recognition.after > 0.5
    assert not made.record.recognition.still


def test_a_method_that_may_not_read_the_records_does_not_look(data, original):
    assert quiet(original, data, CLASS, "logit-mask").record.recognition is None


def test_codes_stand_in_for_records_of_mnemonic(data):
    coded = efface.train("mlp", data, method="mnemonic", settings={"t_mix": 0.5}, recipe=RECIPE, device="cpu")
    with pytest.warns(ForgettingWarning, match="still recognised: .* of the 1 codes"):
        made = efface.forget(
            coded, data, CLASS, method="mnemonic", settings={"lambda_1": 1e-12, "lambda_2": 1e-9}, device="cpu"
        )
    codes, classes = coded.memory["codes"], coded.memory["code_classes"]
    with torch.no_grad():
        right = float((made.model(codes).argmax(1) == classes)[classes == 4].float().mean())
    assert (made.record.recognition.of, made.record.recognition.after) == ("codes", right)


def test_a_recipe_of_no_epochs_makes_no_reference(data, original):
    with pytest.raises(InputError, match=r"epochs=0.*give the recipe"):
        efface.forget(original.model, data, CLASS, method="retrain", recipe=RECIPE.but(epochs=0), device="cpu")


@pytest.mark.seconds
def test_without_a_method_a_small_network_passes_a_sealed_audit(data, original, tmp_path):
    """The fast version of the test through the shell: held-out data to be judged by, four retrained models to audit."""
    held = efface.train(
        efface.ModelSpec(build="mlp", arguments={"hidden": [32], "activation": "relu"}),
        data,
        recipe=RECIPE,
        device="cpu",
    )
    made = efface.forget(held, data, CLASS, device="cpu")
    assert any("the first to meet the standards" in note for note in made.record.notes)
    folder = tmp_path / "references"
    references = efface.train_references(held, data, CLASS, 4, folder, backend="vmap", device="cpu")
    cheap = {"resamples": 100, "few_draws": 10, "probe_per_class": 30, "relearn_cap": 30, "kept_steps": 10}
    settings = AuditSettings(sealed=True, **cheap)
    found = efface.audit(made, data, CLASS, original=held, retrained=references, settings=settings, device="cpu")
    assert found.level == "c"
    assert [c.key for c in found.verdict.checks if c.outcome == "differs"] == []
    assert found.verdict.outcome == "alike"


def test_kept_accuracy_is_that_of_held_out_records_of_what_stays(data):
    """By hand, over the held-out positions; test data is not looked at."""
    network = efface.ModelSpec(build="mlp", arguments={"hidden": [32]})
    trained = efface.train(network, data, recipe=RECIPE, validation=0.1, device="cpu")
    made = quiet(trained, data, CLASS, "logit-mask")
    held_out = Split.of(data, CLASS, 0.1, trained.record.data.split_seed).held_out
    kept = torch.from_numpy(held_out[data.train_labels[held_out] != 4])
    y = data.train.labels[kept]
    with torch.no_grad():
        (x,) = data.train.read([kept])
        shares = [float((a.model(x).argmax(1) == y).double().mean()) for a in (made, trained)]
    expected = f"kept accuracy: {shares[0]:.1%} of {len(kept)} held-out records, {shares[1]:.1%} before"
    assert kept_accuracy(made, data) == expected
