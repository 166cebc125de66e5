"""Mean inputs of layers per class, against means computed the obvious way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.mechanisms.class_means import LayerMeans, class_means, taps
from efface.running.seeding import seeded
from tests.mechanisms.classes import CLASSES, Block, batches, samples


def patches(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Mean patch of every sample, by torch's own unfolding: (N, G, d)."""
    found = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride).mean(-1)
    return found.unflatten(1, (conv.groups, -1))


def of_class(values: Tensor, y: Tensor, c: int) -> Tensor:
    return values[y == c].mean(0)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolutions_mean_is_the_mean_patch(groups: int) -> None:
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=groups), nn.Flatten(), nn.Linear(36, 5))
    x, y = samples()
    means = class_means(model, batches(x, y), range(CLASSES))
    conv = model[0]
    assert isinstance(conv, nn.Conv2d)
    for c in range(CLASSES):
        torch.testing.assert_close(
            means.rows("0", [c])[0].float(), of_class(patches(conv, x), y, c), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_seen_at_all_four_projections(batch_first: bool) -> None:
    """The mean output of every projection equals the projection of the mean input, computed outside the layer."""
    with seeded(0):
        model = Block(batch_first).eval()
    x, y = samples()
    means = class_means(model, batches(x, y), range(CLASSES))
    assert [t.name for t in taps(model)] == [
        "stem",
        *(f"attention.{k}" for k in ("query", "key", "value", "out_proj")),
        "head",
    ]
    with torch.no_grad():
        t = model.tokens(x)
        order = t if batch_first else t.transpose(0, 1)
        mixed, _ = model.attention(order, order, order)
        out = mixed.mean(1 if batch_first else 0)
    weight, bias = model.attention.out_proj.weight, model.attention.out_proj.bias
    for c in range(CLASSES):
        for side in ("query", "key", "value"):
            torch.testing.assert_close(
                means.rows(f"attention.{side}", [c])[0, 0].float(), of_class(t.mean(1), y, c), rtol=1e-5, atol=1e-6
            )
        entered = means.rows("attention.out_proj", [c])[0, 0].float()
        torch.testing.assert_close(weight @ entered + bias, of_class(out, y, c), rtol=1e-4, atol=1e-5)


def test_means_do_not_depend_on_batches_and_skip_other_classes() -> None:
    with seeded(0):
        model = Block()
    x, y = samples()
    whole = class_means(model, [(x, y)], range(CLASSES))
    parts = class_means(model, batches(x, y, 3), (1, 4))
    assert parts.classes == (1, 4)
    for name in whole.of:
        torch.testing.assert_close(parts.of[name], whole.of[name][[1, 4]], rtol=1e-5, atol=1e-6)


def test_memory_comes_back_without_the_forgotten_class() -> None:
    mean = torch.randn(5, 1, 20, generator=torch.Generator().manual_seed(0))
    means = LayerMeans(tuple(range(5)), {"a": mean}, weights="ab" * 32)
    back = LayerMeans.recalled({"other": torch.ones(1), **means.without([1, 3]).memory()})
    assert back is not None
    assert back.classes == (0, 2, 4)
    assert back.weights == "ab" * 32
    assert torch.equal(back.of["a"], mean[[0, 2, 4]])
    assert LayerMeans.recalled({"other": torch.ones(1)}) is None
    assert set(LayerMeans.forgotten({"other": torch.ones(1), **means.memory()})) == {"other"}
