"""Blocks of per-sample gradients against autograd, sample by sample, whatever the window and however they are cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efface.curvature.jacobian import Linearisation
from efface.curvature.layer_gradients import Block, closed_form, conv_patches, conv_positions


def gradients(module, a, g, workspace):
    """Put the blocks of the weight together: (b, *shape); every entry must come exactly once."""
    found = torch.full((len(a), *module.weight.shape), torch.nan, dtype=g.dtype)
    for block in closed_form(module)(module, a, g, frozenset(["weight"]), workspace):
        assert isinstance(block, Block)
        target = found[block.start : block.start + len(block.gradients)][(slice(None), *block.where)]
        assert bool(target.isnan().all())
        target.copy_(block.gradients)
    return found


def by_autograd(module, a, g):
    rows = [torch.autograd.grad(module(a[i : i + 1]), module.weight, g[i : i + 1])[0] for i in range(len(a))]
    return torch.stack(rows)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_convolutions_of_every_window(data):
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    dimensions = data.draw(st.sampled_from([1, 2, 2]))

    def each(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(dimensions))

    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = data.draw(st.sampled_from(["same", "valid"])) if max(stride) == 1 else each(0, 2)
    layer = (nn.Conv1d, nn.Conv2d)[dimensions - 1](
        groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3)), kernel, stride, padding, dilation,
        groups, bias=False, padding_mode=mode, dtype=torch.float64,
    )  # fmt: skip
    size = tuple(d * (k - 1) + 1 + data.draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True))
    size = tuple(max(3, s) for s in size) if mode != "zeros" else size  # reflection must stay within the input
    torch.manual_seed(data.draw(st.integers(0, 99)))
    a = torch.randn(data.draw(st.integers(1, 5)), layer.in_channels, *size, dtype=torch.float64)
    if mode != "zeros" and padding == "same" and any(d * (k - 1) >= 3 for k, d in zip(kernel, dilation, strict=True)):
        a = torch.nn.functional.pad(a, [9] * 2 * dimensions)
    g = torch.randn_like(layer(a))
    workspace = data.draw(st.sampled_from([1, 20, 100, 10**6]))
    torch.testing.assert_close(gradients(layer, a, g, workspace), by_autograd(layer, a, g), rtol=1e-11, atol=1e-12)
    every, positions = conv_patches(layer, a), conv_positions(layer, a)
    assert every.shape[3] == positions == g[0, 0].numel()
    at = torch.randint(0, positions, (len(a), data.draw(st.integers(1, 3))))
    chosen = every.gather(3, at[:, None, None].expand(-1, *every.shape[1:3], -1))
    assert torch.equal(conv_patches(layer, a, at), chosen)


def test_rows_of_a_wide_convolution_reach_their_place_in_the_jacobian(monkeypatch):
    monkeypatch.setattr("efface.curvature.jacobian._WORKSPACE", 8)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(20, 3)).eval()
    x = torch.randn(3, 2, 4, 4)
    line = Linearisation(model)
    rows = line.rows(x)
    for c in range(3):
        for i in range(3):
            parameters = list(line.parameters.values())
            expected = torch.autograd.grad(line.model(x[i : i + 1].double())[0, c], parameters)
            torch.testing.assert_close(rows[i, c], torch.cat([e.reshape(-1) for e in expected]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("workspace", [1, 10**6])
def test_tokens_and_embeddings(workspace):
    torch.manual_seed(0)
    linear = nn.Linear(4, 3, dtype=torch.float64)
    a, g = torch.randn(5, 6, 4, dtype=torch.float64), torch.randn(5, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(gradients(linear, a, g, workspace), by_autograd(linear, a, g))
    table = nn.Embedding(7, 3, dtype=torch.float64)
    ids = torch.randint(0, 7, (5, 4))
    g = torch.randn(5, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(gradients(table, ids, g, workspace), by_autograd(table, ids, g))
