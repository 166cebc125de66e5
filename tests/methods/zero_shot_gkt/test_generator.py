"""The generator, its gate and the attention maps: the checks of the zero-shot sheet that need no training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.methods.zero_shot_gkt.generator import Generator, attention, attention_gap, gate, stages
from efface.models import resnet18
from efface.running.seeding import seeded


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 30, 21)])
def test_check_1_images_have_the_data_s_shape_and_are_standardised(shape: tuple[int, ...]) -> None:
    with seeded(0):
        generator = Generator(shape, width=16).train()
    images = generator(torch.randn(64, 128, generator=torch.Generator().manual_seed(0)))
    assert images.shape == (64, *shape)
    flat = images.detach().transpose(0, 1).flatten(1)
    # The last BatchNorm standardises each channel before the border is cut, which moves the moments a little.
    torch.testing.assert_close(flat.mean(1), torch.zeros(shape[0]), rtol=0, atol=0.1)
    torch.testing.assert_close(flat.std(1), torch.ones(shape[0]), rtol=0, atol=0.1)


def test_check_1_the_start_is_8_by_8_for_the_published_sizes() -> None:
    assert Generator((1, 28, 28)).start == (128, 8, 8)
    assert Generator((3, 32, 32)).start == (128, 8, 8)


@pytest.mark.parametrize("classes", [(2,), (0, 3, 4)])
def test_check_2_the_gate_is_its_formula(classes: tuple[int, ...]) -> None:
    answers = 3 * torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    p = answers.softmax(1)
    slow = [all(float(p[i, f]) <= 0.05 for f in classes) for i in range(200)]
    assert gate(answers, classes, 0.05).tolist() == slow
    assert 0 < sum(slow) < 200
    assert gate(answers, classes, 1.0).all()
    assert not gate(answers, classes, 0.0).any()


def test_check_3_attention_ignores_the_scale_and_agrees_with_itself() -> None:
    a = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attention(a), attention(7 * a))
    torch.testing.assert_close(attention(a).square().sum(1), torch.ones(5))
    assert float(attention_gap([a, 2 * a], [3 * a, a])) < 1e-12
    b = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    slow = 0.0
    for s, t in ((a, b), (b, a)):
        u, v = s.square().mean(1).flatten(1), t.square().mean(1).flatten(1)
        slow += float((u / u.norm(dim=1, keepdim=True) - v / v.norm(dim=1, keepdim=True)).square().mean())
    assert float(attention_gap([a, b], [b, a])) == pytest.approx(slow, rel=1e-5)
    assert float(attention_gap([], [])) == 0


def test_stages_are_the_spatial_activations_in_order_and_the_hooks_go() -> None:
    with seeded(0):
        model = resnet18(1, 5, width=4).eval()
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with stages(model) as found:
        model(x)
    assert [tuple(a.shape[1:]) for a in found] == [
        (4, 16, 16), *[(4, 16, 16)] * 4, *[(8, 8, 8)] * 4, *[(16, 4, 4)] * 4, *[(32, 2, 2)] * 4,
    ]  # fmt: skip
    count = len(found)
    model(x)
    assert len(found) == count


@pytest.mark.parametrize("norm", [True, False])
def test_models_whose_activations_are_functions_give_other_stages(norm: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2) if norm else nn.Identity(), nn.Flatten())
    with stages(model) as found:
        model(torch.zeros(2, 1, 5, 5))
    assert [tuple(a.shape) for a in found] == [(2, 2, 3, 3)]
