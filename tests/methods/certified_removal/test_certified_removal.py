"""Certified removal: the checks of its sheet by number."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.data import ArraySamples, Data, Part, Split
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.certified_removal.certificate import (
    budget,
    factor,
    official_bound,
    spectral_norm,
    spent_epsilon,
    tight_bound,
    worst_case,
)
from efface.methods.certified_removal.certified_removal import NOISE, SPENT, WEIGHTS, CertifiedRemoval, _features
from efface.methods.certified_removal.logistic import Logistic, minimise, newton_removal, solve
from efface.methods.fine_tune import FineTune
from efface.models.unit_head import UnitHead
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import RECIPE, accuracy, small_cnn, small_mlp


def problem(n: int = 300, d: int = 8, p: int = 2, seed: int = 0, lam: float = 1e-2, sigma: float = 1.0) -> Logistic:
    g = torch.Generator().manual_seed(seed)
    x = nn.functional.normalize(torch.randn(n, d, generator=g, dtype=torch.float64) + 0.3, dim=1)
    truth = torch.randn(p, d, generator=g, dtype=torch.float64)
    noisy = x @ truth.T + 0.3 * torch.randn(n, p, generator=g, dtype=torch.float64)
    return Logistic(x, noisy.sign(), lam, sigma * torch.randn(p, d, generator=g, dtype=torch.float64))


def without(whole: Logistic, gone: list[int]) -> tuple[Logistic, Logistic]:
    stays = torch.ones(len(whole.x), dtype=torch.bool)
    stays[gone] = False
    return tuple(dataclasses.replace(whole, x=whole.x[m], signs=whole.signs[m]) for m in (stays, ~stays))  # type: ignore[return-value]


class Ridge(Logistic):
    """Squared loss (w^T x - y)² / 2 in place of the logistic one: its Hessian is constant."""

    def value(self, w: Tensor) -> Tensor:
        loss = 0.5 * (self.x @ w.T - self.signs).square().sum(0)
        return loss + 0.5 * self.ridge * w.square().sum(1) + (self.noise * w).sum(1)

    def pull(self, w: Tensor) -> Tensor:
        return (self.x @ w.T - self.signs).T @ self.x

    def curvatures(self, w: Tensor) -> Tensor:
        return torch.ones_like(self.signs)


def test_check_1_with_a_quadratic_loss_removal_is_retraining() -> None:
    base = problem()
    whole = Ridge(base.x, base.signs, base.lam, base.noise)
    kept, gone = without(whole, [3, 50, 51])
    w, left = minimise(whole)
    assert float(left.max()) < 1e-8
    step, unsolved = newton_removal(kept, gone, w)
    again, _ = minimise(kept)
    torch.testing.assert_close(w + step, again, rtol=0, atol=1e-10)
    assert float(kept.gradient(w + step).norm(dim=1).max()) < 1e-8
    assert float(unsolved.max()) < 1e-9


def test_the_derivatives_are_those_of_the_objective() -> None:
    p = problem(n=40, d=5)
    w = torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    for k in range(2):
        (by_hand,) = torch.autograd.grad(p.value(w)[k], w)
        torch.testing.assert_close(p.gradient(w.detach())[k], by_hand[k])
        hessian = torch.autograd.functional.hessian(lambda v, k=k: p.value(torch.stack([v, v]))[k], w.detach()[k])
        v = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(p.product(p.curvatures(w.detach()), v)[k], hessian @ v[k])
        solved, unsolved = solve(p, p.curvatures(w.detach()), v, p.majorant())
        torch.testing.assert_close(solved[k], torch.linalg.solve(hessian, v[k]), rtol=1e-9, atol=1e-12)
        assert float(unsolved.max()) < 1e-10


def test_check_2_residual_under_tight_under_official_under_worst_case() -> None:
    whole = problem(n=400, d=10)
    w, _ = minimise(whole)
    rng, least = np.random.default_rng(0), math.inf
    for i in range(100):
        gone_ids = rng.choice(400, 1 + i % 3, replace=False).tolist()
        kept, gone = without(whole, gone_ids)
        step, unsolved = newton_removal(kept, gone, w)
        residual = kept.gradient(w + step).norm(dim=1)
        norm, answers = spectral_norm(kept.gram), kept.x @ step.T
        tight, official = tight_bound(norm, answers), official_bound(norm, step, answers)
        assert bool((residual <= tight + unsolved + 1e-9).all())
        assert bool((tight <= official).all())
        assert float(official.max()) <= worst_case(len(gone_ids), whole.lam, len(kept.x))
        least = min(least, float((official / tight).min()))
    assert least >= 5.19  # 1/4 over half of 1 / (6 sqrt 3), and rows of norm at most 1


def test_check_3_the_step_gets_close_to_retraining_and_closer_with_more_data() -> None:
    gaps = []
    for n in (250, 500, 1000, 2000):
        whole = problem(n=n)
        kept, gone = without(whole, [7])
        w, _ = minimise(whole)
        again, _ = minimise(kept)
        step, _ = newton_removal(kept, gone, w)
        gap = (w + step - again).norm(dim=1)
        assert bool((gap <= kept.gradient(w + step).norm(dim=1) / kept.ridge + 1e-9).all())
        assert float(gap.max()) < 0.1 * float((w - again).norm(dim=1).max())
        gaps.append(float(gap.max()))
    assert gaps[-1] < gaps[0] / 8


def test_check_4_one_by_one_and_as_a_batch_agree_with_retraining() -> None:
    whole = problem(n=500)
    w, _ = minimise(whole)
    ids = [4, 90, 17]
    kept, gone = without(whole, ids)
    again, _ = minimise(kept)
    for order in (ids, ids[::-1]):
        here = w
        for i in range(3):
            left, _ = without(whole, order[: i + 1])
            one, _ = without(whole, [j for j in range(500) if j != order[i]])
            step, _ = newton_removal(left, one, here)
            here = here + step
        for found in (here, w + newton_removal(kept, gone, w)[0]):
            bound = kept.gradient(found).norm(dim=1) / kept.ridge
            assert bool(((found - again).norm(dim=1) <= bound + 1e-9).all())
            assert float((found - again).norm()) < 0.1 * float((w - again).norm())


def test_check_6_the_constant_and_the_budget() -> None:
    assert factor(1e-4) == pytest.approx(4.385, abs=5e-4)
    assert budget(10, 1, 1e-4) == pytest.approx(2.280, abs=5e-4)
    assert factor(1e-4, problems=10) == factor(1e-5)
    assert spent_epsilon(budget(10, 1, 1e-4, 3), 10, 1e-4, 3) == pytest.approx(1)
    assert spent_epsilon(0.1, 0.0, 1e-4) == math.inf


@pytest.fixture(scope="module")
def pair(digits_data: Data) -> Data:
    """Digits 3 against 8."""
    parts = []
    for s in (digits_data.train, digits_data.test):
        chosen = torch.isin(s.labels, torch.tensor([3, 8]))
        parts.append(ArraySamples(s.inputs[chosen], (s.labels[chosen] == 8).long(), s.mean, s.std))
    return Data("3 and 8", *parts, ("3", "8"))


GENEROUS = CertifiedRemoval(features="inputs", lam=1e-2, sigma=100, noise="run", epsilon=2.0)


def removal(artifact: Artifact, data: Data, method: CertifiedRemoval, items: list[int]) -> Artifact:
    split = Split.of(data, Request.of(items=items), earlier=artifact.record.earlier_requests)
    return apply(method, Case(artifact, split, Run(seed=1, device="cpu")))


def rows(artifact: Artifact, stage: str = "certified-removal") -> list[dict[str, float]]:
    return [r for r in artifact.record.history if r["stage"] == stage]


def trained_items(data: Data, n: int) -> list[int]:
    return Split.of(data).train.indices[:n].tolist()


def test_two_classes_are_one_problem_that_classifies(pair: Data) -> None:
    method = CertifiedRemoval(features="inputs", lam=1e-3, sigma=1.0, noise="run")
    made = prepare(method, small_mlp(), Split.of(pair), RECIPE, Run(device="cpu"))
    assert made.memory[WEIGHTS].shape == (1, 64)
    assert accuracy(made.model, Split.of(pair).test) > 0.9
    x, _ = Split.of(pair).test.take(range(9)).tensors()
    z = made.model(x).double()
    rows_of_x = nn.functional.normalize(x.flatten(1).double(), dim=1)
    torch.testing.assert_close(z[:, 1] - z[:, 0], (rows_of_x @ made.memory[WEIGHTS].T)[:, 0], rtol=1e-4, atol=1e-5)


def test_check_5_every_removal_is_charged_until_the_budget_refuses(pair: Data) -> None:
    artifact = prepare(GENEROUS, small_mlp(), Split.of(pair), RECIPE, Run(device="cpu"))
    spent, epsilon, served = float(artifact.memory[SPENT].sum()), 0.0, 0
    assert spent < 1e-7
    for item in trained_items(pair, 40):
        before = artifact.record.weights_after
        try:
            made = removal(artifact, pair, GENEROUS, [item])
        except InputError as error:
            assert "Nothing was changed" in str(error)  # noqa: PT017
            assert artifact.record.weights_after == before
            break
        (charged,), (account,) = rows(made, "certified-removal/removal"), rows(made)
        assert charged["residual"] <= account["spent"]
        assert account["spent"] == pytest.approx(spent + charged["bound"] + charged["unsolved"], rel=1e-6)
        assert epsilon < account["epsilon"] <= 2.0
        assert account["delta"] == 1e-4
        assert account["spent"] <= account["budget"] == pytest.approx(budget(100, 2.0, 1e-4))
        spent, epsilon, served, artifact = account["spent"], account["epsilon"], served + 1, made
    else:
        pytest.fail("the budget never ran out")
    assert 2 <= served < 40


def test_check_5_a_spent_certificate_can_be_trained_anew(pair: Data) -> None:
    artifact = prepare(GENEROUS, small_mlp(), Split.of(pair), RECIPE, Run(device="cpu"))
    items = trained_items(pair, 60)
    made = removal(artifact, pair, dataclasses.replace(GENEROUS, when_spent="retrain"), items)
    assert not torch.equal(made.memory[NOISE], artifact.memory[NOISE])
    assert float(made.memory[SPENT].sum()) < 1e-7
    split = Split.of(pair, Request.of(items=items))
    x, y = split.retain.tensors()
    kept = Logistic(
        nn.functional.normalize(x.flatten(1).double(), dim=1), (2.0 * y.double() - 1)[:, None], 1e-2, made.memory[NOISE]
    )
    torch.testing.assert_close(made.memory[WEIGHTS], minimise(kept)[0], rtol=0, atol=1e-6)
    assert any("trained anew" in note for note in made.record.notes)


def test_check_7_without_noise_there_is_no_budget(pair: Data) -> None:
    method = CertifiedRemoval(features="inputs", lam=1.0, sigma=0.0)
    artifact = prepare(method, small_mlp(), Split.of(pair), RECIPE, Run(device="cpu"))
    with pytest.raises(InputError, match="epsilon would be inf"):
        removal(artifact, pair, method, trained_items(pair, 1))


def test_check_7_a_large_lambda_makes_removals_cheap(pair: Data) -> None:
    charged = []
    for lam in (1e-2, 1.0, 100.0):
        method = dataclasses.replace(GENEROUS, lam=lam)
        artifact = prepare(method, small_mlp(), Split.of(pair), RECIPE, Run(device="cpu"))
        charged.append(
            rows(removal(artifact, pair, method, trained_items(pair, 1)), "certified-removal/removal")[0]["bound"]
        )
    assert charged[1] < charged[0] / 100
    assert charged[2] < charged[1] / 100


def test_check_8_rows_have_unit_length_and_zeros_stay(digits_data: Data) -> None:
    lengths = torch.tensor([1e-6, 1e-3, 1.0, 1e3, 1e6, 0.0])
    x = lengths[:, None] * nn.functional.normalize(
        torch.randn(6, 64, generator=torch.Generator().manual_seed(0)).abs(), dim=1
    )
    samples = ArraySamples(x.reshape(6, 1, 8, 8), torch.arange(6) % 10)
    head = UnitHead(torch.zeros(10, 64))
    rows_of_x, _ = _features(nn.Sequential(nn.Flatten(), head), Part("rows", samples, np.arange(6)), 10)
    assert rows_of_x.dtype == torch.float64
    torch.testing.assert_close(rows_of_x.norm(dim=1), (lengths > 0).double(), rtol=0, atol=1e-6)
    method = CertifiedRemoval(features="inputs", sigma=1.0)
    artifact = prepare(method, small_mlp(), Split.of(digits_data), RECIPE, Run(device="cpu"))
    assert artifact.memory[WEIGHTS].shape == (10, 64)
    assert torch.equal(artifact.model(torch.zeros(1, 1, 8, 8)), torch.zeros(1, 10))
    assert accuracy(artifact.model, Split.of(digits_data).test) > 0.7


def test_noise_is_secret_unless_asked_for(pair: Data) -> None:
    split = Split.of(pair)
    secret = [prepare(CertifiedRemoval(), small_cnn_of_two(), split, RECIPE, Run(device="cpu")) for _ in range(2)]
    assert not torch.equal(secret[0].memory[NOISE], secret[1].memory[NOISE])
    seeded = [
        prepare(CertifiedRemoval(noise="run"), small_cnn_of_two(), split, RECIPE, Run(device="cpu")) for _ in range(2)
    ]
    assert torch.equal(seeded[0].memory[NOISE], seeded[1].memory[NOISE])
    assert any("does not hold for its reader" in note for note in seeded[0].record.notes)


def small_cnn_of_two() -> nn.Module:
    return nn.Sequential(small_cnn()[:-1], nn.Linear(64, 2))


def test_the_layers_below_the_head_stay(digits_data: Data) -> None:
    method = CertifiedRemoval(lam=1.0, sigma=1e4)
    before = small_cnn()
    artifact = prepare(method, before, Split.of(digits_data), RECIPE, Run(device="cpu"))
    made = removal(artifact, digits_data, method, trained_items(digits_data, 2))
    theirs = made.model.state_dict()
    for name, value in before.state_dict().items():
        if not name.startswith("9."):
            assert torch.equal(theirs[name], value)
    assert any("head only" in note for note in artifact.record.notes)


def test_layers_that_were_trained_on_the_data_are_refused(digits_data: Data) -> None:
    """Their certificate would be void; imported ones, and the inputs, are as public as one says."""
    split, method = Split.of(digits_data), CertifiedRemoval(lam=1.0, sigma=1e4)
    plain = prepare(None, small_mlp(), split, RECIPE.but(epochs=1), Run(device="cpu"))
    with pytest.raises(InputError, match=r"trained on this very data \(plain\).*efface import"):
        prepare(method, plain.model, split, RECIPE, Run(device="cpu"), parent=plain)
    public = given(plain.model, split, RECIPE, Run(device="cpu"))
    made = prepare(method, public.model, split, RECIPE, Run(device="cpu"), parent=public)
    prepare(method, made.model, split, RECIPE, Run(device="cpu"), parent=made)  # its own head anew
    pixels = dataclasses.replace(method, features="inputs")
    prepare(pixels, plain.model, split, RECIPE, Run(device="cpu"), parent=plain)


def test_features_that_something_else_changed_void_the_certificate(digits_data: Data) -> None:
    method = CertifiedRemoval(lam=1.0, sigma=1e4)
    artifact = prepare(method, small_mlp(), Split.of(digits_data), RECIPE, Run(device="cpu"))
    first = Request.of(items=trained_items(digits_data, 2))
    tuned = apply(FineTune(epochs=0.1), Case(artifact, Split.of(digits_data, first), Run(device="cpu")))
    with pytest.raises(InputError, match=r"features are not fixed.*forget from the artifact before that"):
        removal(tuned, digits_data, method, [trained_items(digits_data, 3)[-1]])
