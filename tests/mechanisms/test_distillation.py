"""The divergence in closed form, and derivatives that stay finite for teachers who are sure."""

from __future__ import annotations

import torch

from efface.mechanisms.distillation import kl


def test_kl_is_the_sum_over_classes() -> None:
    g = torch.Generator().manual_seed(0)
    t, s = torch.randn(4, 5, generator=g), torch.randn(4, 5, generator=g)
    p, q = (t / 3).softmax(1), (s / 3).softmax(1)
    torch.testing.assert_close(kl(t, s, 3.0), (p * (p.log() - q.log())).sum(1))
    assert float(kl(t, t + 7).abs().max()) < 1e-6


def test_derivatives_by_teacher_and_student() -> None:
    g = torch.Generator().manual_seed(0)
    t, s = (torch.randn(3, 4, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: kl(a, b, 2.0), (t, s))


def test_sure_and_masked_teachers_have_finite_derivatives() -> None:
    t = torch.tensor([[200.0, 0.0, -200.0], [1.0, 2.0, 3.0]], requires_grad=True)  # softmax underflows to 0
    s = torch.zeros(2, 3, requires_grad=True)
    masked = t.index_fill(1, torch.tensor([2]), -torch.inf)
    for teacher in (t, masked):
        total = kl(teacher, s).sum()
        assert total.isfinite()
        for slope in torch.autograd.grad(total, (t, s), retain_graph=True):
            assert slope.isfinite().all()
    # Without mass for the last class: KL of the second row is that of (1, 2) against a uniform over three.
    p = torch.tensor([1.0, 2.0]).softmax(0)
    torch.testing.assert_close(kl(masked, s)[1], (p * (p.log() + torch.log(torch.tensor(3.0)))).sum())
