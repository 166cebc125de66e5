"""ARCANE: the checks of its sheet by number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Part, Split, load
from efface.errors import InputError
from efface.mechanisms.shards import epochs_by_slice
from efface.methods.applying import apply, prepare, rebuilt
from efface.methods.arcane.arcane import CHOSEN, Arcane, _require_spread
from efface.methods.arcane.one_class import ABSENT, AutoEncoder, Distance, Subspace, fit_subspace
from efface.methods.retrain import Retrain
from efface.request import Request
from efface.running.run import Run
from efface.training.loop import Trainer
from tests.methods.conftest import RECIPE, accuracy, small_mlp

METHODS = {
    "pca": Arcane(),
    "autoencoder": Arcane(score="autoencoder", size=12, blocks=3, epochs=4, batch_size=32),
    "svdd": Arcane(score="svdd", size=16, blocks=3, epochs=4, batch_size=32),
    "share": Arcane(share=0.5),
}
ANEW = Arcane(share=0.5, selection="recompute")


def trained(data: Data, method: Arcane) -> Artifact:
    return prepare(method, small_mlp(), Split.of(data), RECIPE, Run(seed=3, device="cpu"))


def deletion(artifact: Artifact, data: Data, request: Request) -> Artifact:
    split = Split.of(data, request, earlier=artifact.record.earlier_requests)
    return apply(Arcane(), Case(artifact, split, Run(seed=9, device="cpu")))


def assert_exact(made: Artifact, data: Data, method: Arcane, *requests: Request) -> None:
    """Equal to training on the reduced data with the same seeds."""
    split = Split.of(data, earlier=requests)
    model, memory = method.train(small_mlp(), split, RECIPE, Run(seed=3, device="cpu"))
    ours, theirs = made.model.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert made.memory.keys() == memory.keys()
    assert all(torch.equal(made.memory[k], memory[k]) for k in memory)


@pytest.fixture(scope="module")
def artifacts(digits_data: Data) -> dict[str, Artifact]:
    return {name: trained(digits_data, method) for name, method in METHODS.items()}


def place(data: Data, method: Arcane, label: int, block: int) -> list[int]:
    dealt = method._dealt(Split.of(data), Run(seed=3, device="cpu"))
    return dealt.lists(label, Split.of(data).train.indices)[block].tolist()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.seconds
def test_check_1_deletion_is_training_without(name: str, artifacts: dict[str, Artifact], digits_data: Data) -> None:
    method = METHODS[name]
    first, last, other = (place(digits_data, method, c, b)[0] for c, b in ((2, 0), (2, method.blocks - 1), (7, 1)))
    for items in ([first], [last], [last, other]):
        request = Request.of(items=items)
        made = deletion(artifacts[name], digits_data, request)
        assert_exact(made, digits_data, method, request)
        assert made.record.weights_after != artifacts[name].record.weights_after
        before, after = artifacts[name].model.state_dict(), made.model.state_dict()
        allowed = {"2"} | ({"7"} if other in items else set())
        changed = {k.split(".")[1] for k in after if k.startswith("members.") and not torch.equal(before[k], after[k])}
        assert changed == allowed


def test_a_record_of_what_has_become_the_first_block_begins_its_class_anew(
    artifacts: dict[str, Artifact], digits_data: Data
) -> None:
    """With the first block gone, the second made the centre of `svdd`; without one of its records it is another."""
    first, second = (place(digits_data, METHODS["svdd"], 2, b) for b in (0, 1))
    requests = [Request.of(items=first), Request.of(items=second[:1])]
    made = artifacts["svdd"]
    for request in requests:
        made = deletion(made, digits_data, request)
    assert_exact(made, digits_data, METHODS["svdd"], *requests)


@pytest.mark.parametrize("name", ["pca", "svdd"])
def test_a_chain_of_requests_is_what_retraining_gives_from_the_same_seed(
    name: str, artifacts: dict[str, Artifact], digits_data: Data
) -> None:
    made, before = artifacts[name], artifacts[name]
    for request in (Request.of(items=place(digits_data, METHODS[name], 2, 0)[:2]), Request.of(classes=[4])):
        before, split = made, Split.of(digits_data, request, earlier=made.record.earlier_requests)
        made = deletion(made, digits_data, request)
    again = apply(Retrain(), Case(before, split, Run(seed=3, device="cpu")))
    assert again.record.weights_after == made.record.weights_after


@settings(max_examples=6, deadline=None)
@given(choice=st.data())
def test_check_1_over_random_sequences_of_requests(choice: Any) -> None:
    data = load("digits")
    method = choice.draw(
        st.sampled_from([METHODS["pca"], METHODS["share"], ANEW, dataclasses.replace(METHODS["svdd"], epochs=2)])
    )
    artifact, left, served = trained(data, method), Split.of(data).train.indices, []
    items = choice.draw(st.lists(st.sampled_from(left.tolist()), min_size=1, max_size=4, unique=True))
    for request in (Request.of(items=items), Request.of(classes=[choice.draw(st.integers(0, 9))])):
        artifact = deletion(artifact, data, request)
        served.append(request)
    assert_exact(artifact, data, method, *served)


@pytest.mark.parametrize("name", ["pca", "svdd"])
def test_check_2_a_class_is_dropped(name: str, artifacts: dict[str, Artifact], digits_data: Data) -> None:
    request = Request.of(classes=[5])
    made = deletion(artifacts[name], digits_data, request)
    assert_exact(made, digits_data, METHODS[name], request)
    x, _ = Split.of(digits_data).test.tensors()
    before, after = artifacts[name].model(x), made.model(x)
    kept = [k for k in range(10) if k != 5]
    assert torch.equal(before[:, kept], after[:, kept])
    assert bool((after[:, 5] == ABSENT).all())
    assert torch.equal(after.argmax(1), torch.tensor(kept)[before[:, kept].argmax(1)])
    assert not any(v.any() for k, v in made.model.state_dict().items() if k.startswith("members.5."))
    assert not any(k.startswith("classes/5/") for k in made.memory)
    assert not [r for r in made.record.history if "loss" in r]
    assert "arcane: classes trained again: none; dropped: 5" in made.record.notes


def test_check_3_what_was_not_selected_costs_nothing(artifacts: dict[str, Artifact], digits_data: Data) -> None:
    """The per-item rule is exact: dropping such a record leaves every weight."""
    method = METHODS["share"]
    dealt = method._dealt(Split.of(digits_data), Run(seed=3, device="cpu"))
    positions = Split.of(digits_data).train.indices
    outside = positions[dealt.shard[positions] == -1]
    assert len(outside) == pytest.approx(len(positions) / 2, abs=5 * np.sqrt(len(positions)) / 2)
    request = Request.of(items=outside[:20].tolist())
    made = deletion(artifacts["share"], digits_data, request)
    assert made.record.weights_after == artifacts["share"].record.weights_after
    assert any("the model is unchanged" in note for note in made.record.notes)
    assert_exact(made, digits_data, method, request)


@pytest.fixture(scope="module")
def by_entropy(digits_data: Data) -> dict[str, Artifact]:
    methods = {name: Arcane(share=0.5, selection=name) for name in ("entropy", "recompute")}  # type: ignore[arg-type]
    return {name: trained(digits_data, method) for name, method in methods.items()}


def test_check_3_a_frozen_choice_runs_no_step_and_is_not_what_training_without_gives(
    by_entropy: dict[str, Artifact], digits_data: Data
) -> None:
    """The documented caveat: a record that was not chosen kept others out, which `recompute` takes in."""
    frozen, anew = by_entropy["entropy"], by_entropy["recompute"]
    assert frozen.record.weights_after == anew.record.weights_after
    assert any("deletions are exact beside this choice only" in note for note in frozen.record.notes)
    positions = Split.of(digits_data).train.indices
    chosen = frozen.memory[CHOSEN].numpy()
    sizes = np.bincount(digits_data.train_labels[positions])
    assert np.bincount(digits_data.train_labels[chosen]).tolist() == [-(-n // 2) for n in sizes.tolist()]
    outside = np.setdiff1d(positions, chosen)
    request = Request.of(items=outside[digits_data.train_labels[outside] == 2][:30].tolist())
    made, exact = deletion(frozen, digits_data, request), deletion(anew, digits_data, request)
    assert made.record.weights_after == frozen.record.weights_after
    assert any("the model is unchanged" in note for note in made.record.notes)
    assert not torch.equal(exact.memory[CHOSEN], made.memory[CHOSEN])
    assert exact.record.weights_after != made.record.weights_after
    assert_exact(exact, digits_data, ANEW, request)


@pytest.mark.seconds
@pytest.mark.parametrize("score", ["pca", "svdd"])
def test_what_is_left_of_a_frozen_choice_is_trained_on_exactly(score: str, digits_data: Data) -> None:
    """Equal to training where the same records are chosen."""
    method = dataclasses.replace(METHODS[score], share=0.5, selection="entropy")
    artifact = trained(digits_data, method)
    chosen = artifact.memory[CHOSEN].numpy()
    asked = chosen[digits_data.train_labels[chosen] == 4][::9]
    made = deletion(artifact, digits_data, Request.of(items=asked.tolist()))
    left = np.setdiff1d(chosen, asked)
    assert made.memory[CHOSEN].tolist() == left.tolist()
    without = np.setdiff1d(Split.of(digits_data).train.indices, left)
    plain = dataclasses.replace(method, share=1.0)
    split = Split.of(digits_data, earlier=[Request.of(items=without.tolist())])
    model, _ = plain.train(small_mlp(), split, RECIPE, Run(seed=3, device="cpu"))
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in made.model.state_dict().items())


def test_a_class_and_a_damaged_block_of_a_choice(by_entropy: dict[str, Artifact], digits_data: Data) -> None:
    made = deletion(by_entropy["entropy"], digits_data, Request.of(classes=[5]))
    assert not bool((digits_data.train_labels[made.memory[CHOSEN].numpy()] == 5).any())
    assert "arcane: classes trained again: none; dropped: 5" in made.record.notes
    split = Split.of(digits_data, earlier=made.record.earlier_requests)
    again, _ = Arcane().made_again(made, split, Run(seed=9, device="cpu"), set())
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in made.model.state_dict().items())


def test_check_4_the_subspace_by_singular_values() -> None:
    x = torch.rand(30, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    model = Subspace(8, 3)
    fit_subspace(model, x)
    rows = x.flatten(1).double()
    _, _, v = torch.linalg.svd(rows - rows.mean(0))
    rest = (rows - rows.mean(0)) @ v[3:].T
    torch.testing.assert_close(model(x).detach().double(), rest.square().sum(1), rtol=1e-4, atol=1e-6)


def test_check_4_a_deletion_is_a_fresh_fit(artifacts: dict[str, Artifact], digits_data: Data) -> None:
    """Moments of what remains are computed anew in float64, so that there is nothing to subtract, and no rounding."""
    blocks = [place(digits_data, METHODS["pca"], 6, b) for b in range(5)]
    made = deletion(artifacts["pca"], digits_data, Request.of(items=[*blocks[0][:3], *blocks[3][:3]]))
    left = [*blocks[0][3:], *blocks[1], *blocks[2], *blocks[3][3:], *blocks[4]]
    fresh = Subspace(64, 15)
    fit_subspace(fresh, Part("class 6", digits_data.train, np.array(left)).tensors()[0])
    assert torch.equal(made.model.members[6].mean, fresh.mean)
    assert torch.equal(made.model.members[6].axes, fresh.axes)


def test_a_subspace_of_few_records_has_no_further_axes() -> None:
    x = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    model = Subspace(8, 5)
    fit_subspace(model, x)
    assert int(model.axes.detach().any(dim=1).sum()) == 2
    assert float(model(x).detach().max()) < 1e-6


def test_few_wide_records_need_no_moments_of_all_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten photographs: a 12,000 x 12,000 matrix would need 1.1 GB and minutes."""
    monkeypatch.setattr(torch.linalg, "eigh", lambda *_: pytest.fail("moments of all inputs"))
    x = torch.rand(10, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = Subspace(3 * 64 * 64, 4)
    fit_subspace(model, x)
    rows = x.flatten(1).double()
    _, spreads, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    left = float(spreads[4:].square().sum())
    assert float(model(x).detach().sum()) == pytest.approx(left, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "least"),
    [
        (Arcane(), 0.96),
        (Arcane(score="autoencoder", size=12, blocks=1, epochs=30, lr=3e-3, batch_size=16), 0.95),
        (Arcane(score="svdd", size=32, blocks=1, epochs=20, batch_size=16), 0.92),
    ],
)
@pytest.mark.seconds
def test_check_5_accuracy_on_digits(method: Arcane, least: float, digits_data: Data) -> None:
    test = Split.of(digits_data).test
    model = trained(digits_data, method).model
    assert accuracy(model, test) >= least
    assert min(accuracy(model, test.of_class(c)) for c in range(10)) >= 0.8


def test_check_6_a_constant_score_is_refused(digits_data: Data) -> None:
    part = Split.of(digits_data).train.of_class(3)
    model = Distance(64, 4)
    for p in model.parameters():
        torch.nn.init.zeros_(p)
    with pytest.raises(InputError, match="collapsed"):
        _require_spread(model, part, Run(device="cpu"))
    good = Subspace(64, 15)
    fit_subspace(good, part.tensors()[0])
    _require_spread(good, part, Run(device="cpu"))


def test_check_7_steps_start_at_the_first_block_touched(
    artifacts: dict[str, Artifact], digits_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over t >= t* of e_t times the batches of blocks 1..t, without what was deleted."""
    method = METHODS["svdd"]
    taken, one = [], Trainer._one
    monkeypatch.setattr(Trainer, "_one", lambda self: (taken.append(self.stage), one(self))[1])
    made = deletion(artifacts["svdd"], digits_data, Request.of(items=place(digits_data, method, 4, 1)[:1]))
    epochs = epochs_by_slice(method.epochs, 3)
    stages = [r["stage"] for r in made.record.history if "loss" in r]
    assert stages == [f"arcane/class 4/slice {j}" for j in (1, 2) for _ in range(int(epochs[j]))]
    sizes, expected = [len(place(digits_data, method, 4, t)) for t in range(3)], 0
    for t in (1, 2):
        whole, rest = divmod(sum(sizes[: t + 1]) - 1, method.batch_size)
        expected += int(epochs[t]) * (whole + (rest > 1))
    assert len(taken) == expected > 0


def test_check_7_a_deletion_costs_two_thirds_of_a_class_on_average() -> None:
    """(2T + 1) / (3T), by sample visits over the blocks."""
    visits = [e * (t + 1) / 5 for t, e in enumerate(epochs_by_slice(60, 5))]
    mean = np.mean([sum(visits[t:]) for t in range(5)]) / sum(visits)
    assert mean == pytest.approx((2 * 5 + 1) / (3 * 5), abs=0.01)


class OneClassOnly(ArraySamples):
    """Digits that raise when another class than one is read."""

    allowed = -1

    def read(self, batches: Sequence[Tensor], **how: Any) -> Iterator[Tensor]:
        assert all(bool((self.labels[b] == self.allowed).all()) for b in batches)
        return super().read(batches, **how)


@pytest.mark.parametrize("name", ["pca", "autoencoder"])
def test_check_8_no_other_class_is_read(name: str, artifacts: dict[str, Artifact], digits_data: Data) -> None:
    train = digits_data.train
    wary = OneClassOnly(train.inputs, train.labels, train.mean, train.std)
    wary.allowed = 6
    closed = dataclasses.replace(digits_data, train=wary)
    request = Request.of(items=place(digits_data, METHODS[name], 6, 2)[:2])
    assert deletion(artifacts[name], closed, request).record.weights_after != artifacts[name].record.weights_after


def test_scores_by_hand() -> None:
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))
    model = AutoEncoder(6, 2)
    torch.testing.assert_close(model(x), ((x - model.layers(x)) ** 2).sum(1))
    far = Distance(6, 2)
    far.centre_on(x)
    assert bool((far.centre.abs() >= 0.1).all())
    mean = far.phi(x).mean(0)
    pushed = mean.detach().abs() < 0.1
    torch.testing.assert_close(far.centre[~pushed], mean.detach()[~pushed])


def test_saved_with_its_classes(artifacts: dict[str, Artifact], digits_data: Data, tmp_path: Path) -> None:
    made = deletion(artifacts["autoencoder"], digits_data, Request.of(classes=[1]))
    back = Artifact.load(made.save(tmp_path / "a"), small_mlp(), rebuild=rebuilt)
    x, _ = Split.of(digits_data).test.tensors()
    assert torch.equal(back.model(x), made.model(x))
    assert float(back.model.scale.min()) > 0
    assert not torch.equal(back.model.scale, torch.ones(10))
