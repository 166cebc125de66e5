"""The verbs as Python functions, on models and artifacts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import efface
from efface.data import Split
from efface.errors import InputError
from efface.running.seeding import seeded

RECIPE = efface.Recipe(lr=0.1, epochs=6, batch_size=64)


@pytest.fixture(scope="module")
def data() -> efface.Data:
    return efface.load_data("digits")


@pytest.fixture(scope="module")
def request_() -> efface.Request:
    return efface.Request(classes=(4,))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture(scope="module")
def original(data, network) -> efface.Artifact:
    return efface.train(network, data, recipe=RECIPE)


def test_training_a_users_module_leaves_it_alone_and_learns(data, network, original):
    assert original.record.weights_before != original.record.weights_after
    with torch.no_grad():
        x, y = Split.of(data).test.tensors()
        assert (original.model(x).argmax(1) == y).float().mean() > 0.85
        assert (network(x).argmax(1) == y).float().mean() < 0.3


def test_training_is_deterministic_for_a_seed(data, network, original):
    again = efface.train(network, data, recipe=RECIPE)
    assert again.record.weights_after == original.record.weights_after
    other = efface.train(network, data, recipe=RECIPE.but(seed=1))
    assert other.record.weights_after != original.record.weights_after


def test_the_global_random_state_is_neither_read_nor_moved(data, network, original):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert efface.train(network, data, recipe=RECIPE).record.weights_after == original.record.weights_after
    assert torch.equal(torch.get_rng_state(), before)


def test_forget_accepts_a_bare_module(data, request_, original):
    forgotten = efface.forget(original.model, data, request_, method="logit-mask", recipe=RECIPE)
    assert [r.action for r in forgotten.record.chain] == ["given", "forget"]
    x, _ = Split.of(data, request_).test_forget.tensors()
    assert not (forgotten.model(x).argmax(1) == 4).any()


def test_audit_levels(data, request_, original):
    forgotten = efface.forget(original, data, request_, method="logit-mask")
    assert efface.audit(forgotten, data).level == "a"
    found = efface.audit(forgotten, data, retrained=True)
    assert found.level == "b"
    assert found.references == 1
    assert {"original", "retrained", "fine-tuned"} <= {r.name for r in found.rows}


def test_a_reference_for_another_request_is_refused_with_the_difference(data, request_, original):
    forgotten = efface.forget(original, data, request_, method="logit-mask")
    wrong = efface.forget(original, data, efface.Request(classes=(5,)), method="retrain")
    with pytest.raises(InputError, match="different: request"):
        efface.audit(forgotten, data, retrained=wrong)
    with pytest.raises(InputError, match="instead of retrain"):
        efface.audit(forgotten, data, retrained=original)


def test_a_reference_with_another_recipe_is_refused(data, request_, network, original):
    other = efface.train(network, data, recipe=RECIPE.but(epochs=3))
    forgotten = efface.forget(original, data, request_, method="logit-mask")
    wrong = efface.forget(other, data, request_, method="retrain")
    with pytest.raises(InputError, match="recipe"):
        efface.audit(forgotten, data, retrained=wrong)


def test_other_data_than_the_artifacts_is_refused(request_, original):
    with pytest.raises(InputError, match="not the data"):
        efface.forget(original, efface.load_data("digits", normalise=False), request_, method="logit-mask")


def test_settings_without_a_method_are_refused(data, network):
    with pytest.raises(InputError, match="no method"):
        efface.train(network, data, settings={"t_mix": 0.1})


def test_a_saved_artifact_predicts_the_same_and_keeps_its_chain(data, request_, original, network, tmp_path):
    forgotten = efface.forget(original, data, request_, method="logit-mask")
    forgotten.save(tmp_path / "a")
    with pytest.raises(InputError, match="handed over in Python"):
        efface.Artifact.load(tmp_path / "a")
    with seeded(5):
        twin = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    loaded = efface.Artifact.load(tmp_path / "a", twin)
    assert loaded.record == forgotten.record
    x, _ = Split.of(data).test.tensors()
    assert torch.equal(loaded.model(x), forgotten.model(x))


def test_another_original_than_the_parent_is_refused_before_any_retraining(
    data, request_, network, original, monkeypatch
):
    forgotten = efface.forget(original, data, request_, method="logit-mask")
    other = efface.train(network, data, recipe=RECIPE.but(seed=9))
    with pytest.raises(InputError, match="not the model that forgetting started from"):
        efface.audit(forgotten, data, original=other)
    monkeypatch.setattr("efface.verbs.forget.apply", lambda *_: pytest.fail("trained in vain"))
    with pytest.raises(InputError, match="not the model that forgetting started from"):
        efface.audit(forgotten, data, original=other, retrained=True)


def test_a_head_without_a_bias_costs_the_logit_mask_row_and_says_so(data, request_):
    with seeded(0):
        headless = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10, bias=False))
    trained = efface.train(headless, data, recipe=RECIPE.but(epochs=2))
    found = efface.audit(efface.forget(trained, data, request_, method="fine-tune"), data)
    assert "logit mask" not in {r.name for r in found.rows}
    assert any("logit mask" in n and "not assessed" in n for n in found.notes)
