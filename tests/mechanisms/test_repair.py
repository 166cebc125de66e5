"""Lessons, and the training that repairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data import ArraySamples, Part
from efface.mechanisms.repair import lesson_loss, masked_teacher, pushed, repair, statistics_anew
from efface.running.run import Run
from efface.training.recipe import Recipe
from tests.methods.conftest import small_cnn


def part_of(x: Tensor, y: Tensor) -> Part:
    return Part("retain", ArraySamples(x.numpy(), y.numpy()), np.arange(len(x)))


def problem(n: int = 12, d: int = 20, k: int = 4) -> tuple[Tensor, Tensor, nn.Linear, nn.Linear]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    models = []
    for _ in range(2):
        model = nn.Linear(d, k, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.randn(k, d, generator=generator))
        models.append(model)
    return x, torch.arange(n) % k, models[0], models[1]


def test_the_masked_teacher_gives_forgotten_classes_no_mass_and_leaves_the_model() -> None:
    x, _, model, _ = problem()
    model.train()
    z = masked_teacher(model, [1])(x)
    assert model.training
    p = z.softmax(1)
    plain = model(x).softmax(1)
    assert (p[:, 1] == 0).all()
    torch.testing.assert_close(p[:, [0, 2, 3]], plain[:, [0, 2, 3]] / (1 - plain[:, [1]]))


def test_each_lesson_is_its_formula() -> None:
    x, y, teacher, student = problem()
    y = y.clamp(max=2)
    taught = masked_teacher(teacher, [3])
    t, s = taught(x), student(x).detach()
    labels = F.cross_entropy(s, y)
    divergence = sum(
        float(p * (math.log(p) - float(q)))
        for row, log_q in zip(t.softmax(1)[:, :3], s.log_softmax(1)[:, :3], strict=True)
        for p, q in zip(row.tolist(), log_q, strict=True)
    ) / len(x)
    torch.testing.assert_close(lesson_loss("labels", None)(student, x, y), labels)
    assert lesson_loss("teacher", taught)(student, x, y).item() == pytest.approx(divergence, rel=1e-5)
    assert lesson_loss("both", taught)(student, x, y).item() == pytest.approx(divergence + float(labels), rel=1e-5)
    expected = ((s[:, :3] - t[:, :3]) ** 2).mean()
    torch.testing.assert_close(lesson_loss("logits", taught)(student, x, y), expected)
    warm = F.kl_div((s / 3).log_softmax(1), (t / 3).softmax(1), reduction="batchmean")
    torch.testing.assert_close(lesson_loss("teacher", taught, 3.0)(student, x, y), warm)


def test_check_3_linear_students_reach_the_teachers_projection() -> None:
    """Undo.md check 3: least squares from S_0 ends at S_0 + (T - S_0) P_X, P_X on the span of the inputs."""
    x, y, teacher, student = problem()
    basis = torch.linalg.svd(x, full_matrices=False)[2]
    expected = student.weight + (teacher.weight - student.weight) @ basis.T @ basis
    recipe = Recipe(optimiser="sgd", lr=1.0, momentum=0.9, weight_decay=0, epochs=600, batch_size=len(x))
    loss = lesson_loss("logits", masked_teacher(teacher, []))
    repair(student, part_of(x, y), recipe, Run(device="cpu"), stage="check", loss=loss)
    torch.testing.assert_close(student.weight, expected.detach(), rtol=1e-3, atol=1e-3)
    assert (teacher.weight - student.weight).norm() > 1  # nothing was learnt across the inputs


def test_the_push_is_subtracted_and_zero_changes_nothing() -> None:
    x, y, original, model = problem()
    loss = lesson_loss("labels", None)
    assert pushed(loss, model, original, 0.0) is loss
    rms = (model.weight - original.weight).square().mean().sqrt()
    torch.testing.assert_close(pushed(loss, model, original, 2.0)(model, x, y), loss(model, x, y) - 2 * rms)


def test_averages_the_last_weights() -> None:
    x, y, model, _ = problem()
    seen: list[Tensor] = []
    plain = lesson_loss("labels", None)

    def watched(wrapped: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        seen.append(model.weight.detach().clone())  # before each step; the first entry is the start
        return plain(wrapped, a, b)

    recipe = Recipe(optimiser="sgd", lr=0.1, weight_decay=0, epochs=8, batch_size=len(x))
    repair(model, part_of(x, y), recipe, Run(device="cpu"), stage="a", loss=watched, average=0.5)
    last = torch.stack(seen[5:])  # after steps 5 to 7
    _, _, again, _ = problem()
    repair(again, part_of(x, y), recipe, Run(device="cpu"), stage="a", loss=plain)  # after step 8
    torch.testing.assert_close(model.weight, torch.cat([last, again.weight.detach()[None]]).mean(0))


def test_takes_a_step_even_if_the_share_of_an_epoch_rounds_to_none() -> None:
    x, y, model, _ = problem()
    before = model.weight.detach().clone()
    recipe = Recipe(epochs=0.01, batch_size=6, lr=0.1)
    repair(model, part_of(x, y), recipe, Run(device="cpu"), stage="a", loss=lesson_loss("labels", None))
    assert not torch.equal(before, model.weight)


def test_stops_when_it_is_enough() -> None:
    x, y, model, _ = problem()
    run = Run(device="cpu")
    asked: list[int] = []

    def enough(_: nn.Module) -> bool:
        asked.append(1)
        return len(asked) == 3

    recipe = Recipe(epochs=100, batch_size=len(x))
    repair(model, part_of(x, y), recipe, run, stage="a", loss=lesson_loss("labels", None), enough=enough, looks=20)
    assert run.history.of("a")[-1]["steps"] == 15
    assert "stopped after 15 of 100 steps" in run.notes[0]


def test_statistics_are_those_of_the_retained_data() -> None:
    model = small_cnn()
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    part = part_of(x, torch.zeros(30, dtype=torch.int64))
    statistics_anew(model, part, Recipe(batch_size=30), Run(device="cpu"), "check")
    first = model[0](x)
    torch.testing.assert_close(model[1].running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[1].running_var, first.var((0, 2, 3)), rtol=1e-3, atol=1e-5)
