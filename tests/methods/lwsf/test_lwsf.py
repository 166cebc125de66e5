"""Learning with selective forgetting: the checks of its sheet by number; check 7: auditing/measures/test_lsfm.py."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.errors import NotPreparedError
from efface.methods.applying import apply, prepare
from efface.methods.lwsf import lwsf
from efface.methods.lwsf.losses import additive_margin, elastic, even_out, masked_distillation, mixed
from efface.methods.lwsf.lwsf import CLASSES, CODES, LwSF
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from tests.methods.conftest import RECIPE, accuracy, small_cnn, small_mlp

KEPT = torch.tensor([1.0, 0.0, 1.0, 1.0])


def cosines(seed: int, n: int = 6, k: int = 4) -> torch.Tensor:
    return torch.rand(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


@pytest.fixture(scope="module")
def coded(digits_data: Data) -> Artifact:
    recipe = RECIPE.but(lr=0.01, epochs=15)
    return prepare(LwSF(block=2), small_mlp(), Split.of(digits_data), recipe, Run(device="cpu"))


def test_check_1_additive_margin_is_a_stricter_cross_entropy() -> None:
    y, c = cosines(0), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(additive_margin(y, c, margin=0.0), F.cross_entropy(30 * y, c))
    for i in range(6):
        assert additive_margin(y[i : i + 1], c[i : i + 1]) > additive_margin(y[i : i + 1], c[i : i + 1], margin=0.0)
    row, s, m = y[0], 30.0, 0.35
    top = math.exp(s * (row[0] - m))
    byhand = -math.log(top / (top + sum(math.exp(s * v) for v in row[1:])))
    assert float(additive_margin(y[:1], c[:1])) == pytest.approx(byhand, rel=1e-12)


def test_check_2_mixing_by_one_share_per_sample() -> None:
    x, other = torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2)
    share = torch.tensor([1.0, 0.0, 0.25, 0.5])
    out = mixed(x, other, share)
    assert torch.equal(out[0], x[0])
    assert torch.equal(out[1], other[1])
    torch.testing.assert_close(out[2], 0.25 * x[2] + 0.75 * other[2])


@pytest.mark.seconds
def test_check_2_shares_are_drawn_evenly_for_each_image(digits_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(lwsf, "mixed", lambda x, other, share: (drawn.append(share), mixed(x, other, share))[1])
    split = Split.of(digits_data)
    prepare(LwSF(), small_mlp(), split, RECIPE.but(lr=0.01, epochs=9), Run(device="cpu"))
    shares = torch.cat(drawn)
    assert len(shares) > 10_000
    assert all(len(batch.unique()) == len(batch) for batch in drawn)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shares.min()) >= 0
    assert float(shares.max()) < 1
    assert shares.histc(10, 0, 1) / len(shares) == pytest.approx(0.1, abs=0.015)


def test_check_3_codes_become_keys(coded: Artifact) -> None:
    right = coded.model(coded.memory[CODES]).argmax(1) == coded.memory[CLASSES]
    assert right.all()
    image = coded.memory[CODES][0, 0]
    assert torch.equal(image[::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1), image)  # squares of 2 x 2
    assert len(image.unique()) == 16


def test_the_logits_are_scaled_cosines(coded: Artifact, digits_data: Data) -> None:
    x, _ = Split.of(digits_data).test.take(range(20)).tensors()
    h = coded.model[:-1](x) if isinstance(coded.model, nn.Sequential) else None
    weight = next(p for n, p in coded.model.named_parameters() if p.shape[0] == 10)
    torch.testing.assert_close(weight.norm(dim=1), torch.full((10,), 30.0))
    assert coded.model(x).abs().max() <= 30 + 1e-4
    assert h is None or h.shape[0] == 20


def test_check_4_distillation_looks_at_kept_entries_only() -> None:
    teacher, student = cosines(1), cosines(2)
    base = masked_distillation(teacher, student, KEPT)
    moved = teacher.clone()
    moved[:, 1] += 0.5
    assert torch.equal(masked_distillation(moved, student, KEPT), base)
    moved[:, 0] += 0.5
    assert not torch.equal(masked_distillation(moved, student, KEPT), base)
    p, q = ((KEPT * z / 2).softmax(1) for z in (teacher, student))
    torch.testing.assert_close(base, 3600 * (p * (p / q).log()).sum(1).mean())


def test_evening_out_moves_deleted_cosines_to_one_over_k() -> None:
    level = cosines(3)
    level[:, 1] = 1 / 4
    assert float(even_out(level, KEPT.double())) == pytest.approx(0, abs=1e-9)
    level[:, 0] = -1  # a kept entry does not matter
    assert float(even_out(level, KEPT.double())) == pytest.approx(0, abs=1e-9)
    level[:, 1] = 0.9
    assert float(even_out(level, KEPT.double())) > 1


def test_check_5_elastic_weights(coded: Artifact) -> None:
    model = copy.deepcopy(coded.model)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    importance = {n: torch.full_like(p, 2.0) for n, p in start.items()}
    value = elastic(model, start, importance)
    value.backward()
    assert float(value.detach()) == 0
    assert all(not p.grad.any() for p in model.parameters())
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 3.0
    assert float(elastic(model, start, importance).detach()) == pytest.approx(9.0, rel=1e-5)


def test_check_5_importance_leaves_deleted_classes_out_unless_leaked(coded: Artifact) -> None:
    x, y = coded.memory[CODES], coded.memory[CLASSES]
    stays = y != 0
    model = copy.deepcopy(coded.model).eval()

    def importance(method: LwSF, codes: torch.Tensor) -> dict[str, torch.Tensor]:
        return method._importance(coded.model.eval(), model, codes, y, stays, 30.0)

    changed = x.clone()
    changed[~stays] = 1 - changed[~stays]
    kept, again = (importance(LwSF(), codes) for codes in (x, changed))
    assert all(torch.equal(kept[n], again[n]) for n in kept)
    leaked, other = (importance(LwSF(ewc_deleted=1.0), codes) for codes in (x, changed))
    assert any(not torch.equal(leaked[n], other[n]) for n in leaked)
    weight = next(n for n, p in model.named_parameters() if p.shape[0] == 10)
    # The definition, one code at a time, with the head's rows at length 1.
    sums = torch.zeros_like(kept[weight])
    for code, label in zip(x[stays], y[stays], strict=True):
        model.zero_grad()
        F.cross_entropy(model(code[None]), label[None]).backward()
        sums += (30 * model.get_parameter(weight).grad) ** 2
    torch.testing.assert_close(kept[weight], sums / int(stays.sum()), rtol=1e-4, atol=1e-12)


def test_check_6_deleted_codes_are_gone_and_cannot_be_asked_for_again(
    coded: Artifact, digits_data: Data, tmp_path: Path
) -> None:
    made = apply(LwSF(steps=2), Case(coded, Split.of(digits_data, Request.of(classes=[4])), Run(seed=1, device="cpu")))
    assert made.memory[CLASSES].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    dropped = coded.memory[CODES][4]
    assert not any(torch.equal(code, dropped) for code in made.memory[CODES])
    files = [load_file(f) for f in made.save(tmp_path / "made").rglob("*.safetensors")]
    saved = [code for tensors in files for name, v in tensors.items() if name == CODES for code in v]
    assert len(saved) == 9
    assert not any(torch.equal(code, dropped) for code in saved)
    assert not any(dropped.numpy().tobytes() in f.read_bytes() for f in (tmp_path / "made").iterdir() if f.is_file())
    bare = Artifact(made.model, coded.record, made.memory)
    with pytest.raises(NotPreparedError, match="no code for class 4"):
        LwSF().check(bare, Split.of(digits_data, Request.of(classes=[4])))


def test_check_6_no_deleted_code_is_learnt_from(
    coded: Artifact, digits_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand draws and more, all are of kept classes, each as often as any other."""
    labels: list[torch.Tensor] = []
    inner = lwsf.additive_margin

    def watched(cosines: torch.Tensor, c: torch.Tensor, *more: float) -> torch.Tensor:
        labels.append(c)
        return inner(cosines, c, *more)

    monkeypatch.setattr(lwsf, "additive_margin", watched)
    gone = Request.of(classes=[4, 7])
    apply(LwSF(steps=50), Case(coded, Split.of(digits_data, gone), Run(seed=1, device="cpu")))
    counts = torch.cat(labels).bincount(minlength=10)
    assert int(counts.sum()) >= 1000
    assert counts[[4, 7]].tolist() == [0, 0]
    assert int(counts[[0, 1, 2, 3, 5, 6, 8, 9]].min()) >= int(counts.sum()) // 8


def test_the_loss_on_codes_holds_the_keys(coded: Artifact, digits_data: Data) -> None:
    """Same seed with and without it."""
    split = Split.of(digits_data, Request.of(classes=[0]))

    def kept(gamma: float) -> float:
        made = apply(LwSF(gamma=gamma, steps=100), Case(coded, split, Run(seed=1, device="cpu")))
        with torch.no_grad():
            return float(additive_margin(made.model(made.memory[CODES]) / 30, made.memory[CLASSES]))

    assert kept(10.0) < 0.5 * kept(0.0)


class TwoTasks(nn.Module):
    """One body, and a cosine head for each of two tasks of five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(32, 16), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(16, 5, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor, task: int) -> torch.Tensor:
        return F.normalize(self.body(x), dim=1) @ F.normalize(self.heads[task].weight, dim=1).T


def after_two_tasks(gamma: float, seed: int) -> list[float]:
    """Learn two tasks one after another as on the sheet; return the first one's accuracy on kept and deleted classes.

    Every record has a class of either task, which half of its numbers show: what one task needs means nothing to the
    other, so that learning the second one takes from the first.
    """
    g = torch.Generator().manual_seed(seed)
    with seeded(seed):
        net = TwoTasks()
    centres, codes = torch.randn(2, 5, 16, generator=g), torch.randn(2, 5, 32, generator=g)
    y = torch.randint(5, (2, 2000), generator=g)
    x = torch.cat([centres[0][y[0]], centres[1][y[1]]], 1) + 0.7 * torch.randn(2000, 32, generator=g)
    for task in range(2):
        optimiser = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9)
        for _ in range(150):
            i, share = torch.randint(1000, (32,), generator=g), torch.rand(32, generator=g)
            c, kept = y[task][i], torch.randint(1, 5, (32,), generator=g)  # class 0 is deleted
            cosines = net(torch.cat([x[i], mixed(x[i], codes[task][c], share)]), task)
            loss = sum(additive_margin(part, c) for part in cosines.chunk(2))
            if task:
                loss = loss + gamma * additive_margin(net(codes[0][kept], 0), kept)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        right, gone = net(x[1000:], 0).argmax(1) == y[0, 1000:], y[0, 1000:] == 0
    return [float(right[~gone].float().mean()), float(right[gone].float().mean())]


@pytest.mark.seconds
def test_check_8_with_the_loss_on_codes_the_next_task_costs_kept_classes_less() -> None:
    """Same seeds with and without it; of the deleted class more is lost."""
    held, without = (torch.tensor([after_two_tasks(gamma, s) for s in range(3)]).mean(0) for gamma in (10.0, 0.0))
    assert held[0] > without[0] + 0.02
    assert held[1] < without[1] - 0.02


def test_dropping_a_code_without_losses_leaves_the_model(coded: Artifact, class_split: Split) -> None:
    made = apply(LwSF(lr=0.0, steps=3), Case(coded, class_split, Run(device="cpu")))
    for a, b in zip(made.model.parameters(), coded.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_statistics_come_from_images(digits_data: Data) -> None:
    split = Split.of(digits_data)
    made = prepare(LwSF(), small_cnn(), split, RECIPE.but(lr=0.01, epochs=2), Run(device="cpu"))
    x, _ = split.train.tensors()
    first = made.model[0](x)
    torch.testing.assert_close(made.model[1].running_mean, first.mean((0, 2, 3)), rtol=1e-2, atol=1e-3)
    assert accuracy(made.model, split.test) > 0.8
