"""Cached importances: found again only for the same weights, data and estimator, and exact after subtraction."""

import pytest
import torch

from efface.artifact.record import weights_sha256
from efface.curvature import fisher_diagonal
from efface.errors import InputError
from efface.mechanisms.fisher_contrast import fisher_key, recall, remember
from tests.cases import case


def test_retain_from_the_cache_by_subtraction():
    c = case("residual, in place", samples=30)
    key = fisher_key(weights_sha256(c.model.state_dict()), "digits", range(30), "empirical")
    memory = remember(fisher_diagonal(c.model, c.x, c.y), key)
    forget = c.y == 0
    whole = recall(memory, key, "empirical", c.model)
    retain = whole - fisher_diagonal(c.model, c.x[forget], c.y[forget])
    expected = fisher_diagonal(c.model, c.x[~forget], c.y[~forget])
    assert retain.samples == expected.samples == int((~forget).sum())
    for name, value in expected.mean().items():
        # Sums of 30 samples, one cancellation: float64 leaves 1e-13 of the larger term.
        assert torch.allclose(retain.mean()[name], value, rtol=1e-9, atol=1e-12 * float(whole.mean()[name].max()))


def test_the_key_sees_weights_buffers_data_indices_estimator_and_note():
    c = case("residual, in place")

    def key(data="digits", indices=(0, 1, 2), estimator="empirical", note=""):
        return fisher_key(weights_sha256(c.model.state_dict()), data, indices, estimator, note=note)

    first = key()
    assert key(indices=(2, 0, 1)) == first  # order does not matter to a sum
    others = [key("mnist"), key(indices=(0, 1)), key(estimator="true"), key(note="seed 1")]
    with torch.no_grad():
        c.model[2].bn1.running_mean[0] += 1e-9
        others.append(key())
        c.model[2].bn1.running_mean[0] -= 1e-9
        c.model[0].weight[0, 0, 0, 0] += 1e-12
        others.append(key())
    assert len({first, *others}) == 7


def test_what_is_recalled_is_exact_and_under_its_own_key_only():
    c = case("mlp", samples=9)
    fisher = fisher_diagonal(c.model, c.x, c.y)
    memory = remember(fisher, "a")
    assert recall(memory, "b", "empirical", c.model) is None
    found = recall(memory, "a", "empirical", c.model)
    assert found.totals == fisher.totals
    assert (found.samples, found.saturated) == (fisher.samples, fisher.saturated)
    assert all(torch.equal(found.sum()[n], v) for n, v in fisher.sum().items())


def test_what_cannot_be_subtracted_is_not_kept():
    c = case("mlp", samples=9)
    with pytest.raises(InputError, match="not float64"):
        remember(fisher_diagonal(c.model, c.x.float().double(), c.y, dtype=torch.float32), "a")
    with pytest.raises(InputError, match="only one sum"):
        remember(fisher_diagonal(c.model, c.x, c.y, sample_weights="class"), "a")
    with pytest.raises(InputError, match="not cached"):
        fisher_key("0" * 64, "digits", [0], "batch_squared")
