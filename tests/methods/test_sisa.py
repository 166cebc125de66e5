"""SISA: the checks of its sheet by number."""

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
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Augment, Data, Split, load
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.shards import epochs_by_slice
from efface.methods.applying import apply, prepare, rebuilt
from efface.methods.fine_tune import FineTune
from efface.methods.retrain import Retrain
from efface.methods.sisa import Sisa
from efface.models.ensemble import Ensemble
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import Trainer
from efface.training.recipe import Recipe
from tests.methods.conftest import accuracy, small_cnn, small_mlp

HARD = Recipe(optimiser="adam", lr=3e-3, epochs=4, batch_size=32, augment=Augment(crop=1, flip=True))
QUICK = Recipe(lr=0.1, epochs=2, batch_size=64)


def with_dropout() -> nn.Module:
    with seeded(0):
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10)]
        return nn.Sequential(*layers)


def trained(data: Data, method: Sisa, recipe: Recipe, model: nn.Module | None = None) -> Artifact:
    return prepare(method, model or with_dropout(), Split.of(data), recipe, Run(seed=3, device="cpu"))


def from_the_start(data: Data, method: Sisa, recipe: Recipe, *requests: Request) -> tuple[nn.Module, dict[str, Tensor]]:
    """Training on the reduced data with the same seeds: what deletion must equal."""
    return method.train(with_dropout(), Split.of(data, earlier=requests), recipe, Run(seed=3, device="cpu"))


def assert_equal(made: Artifact, model: nn.Module, memory: dict[str, Tensor]) -> None:
    ours, theirs = made.model.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert made.memory.keys() == memory.keys()
    assert all(torch.equal(made.memory[k], memory[k]) for k in memory)


def places(data: Data, method: Sisa) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The trained positions, and shard and slice of each."""
    split = Split.of(data)
    dealt = method._dealt(split, Run(seed=3, device="cpu"))
    positions = split.train.indices
    return positions, dealt.shard[positions], dealt.piece[positions]


def deletion(artifact: Artifact, data: Data, request: Request, seed: int = 9) -> Artifact:
    split = Split.of(data, request, earlier=artifact.record.earlier_requests)
    return apply(Sisa(), Case(artifact, split, Run(seed=seed, device="cpu")))


@pytest.fixture(scope="module")
def hard(digits_data: Data) -> tuple[Sisa, Artifact]:
    method = Sisa(shards=3, slices=4)
    return method, trained(digits_data, method, HARD)


@pytest.mark.parametrize("where", ["first slice", "last slice", "tail", "several"])
def test_check_1_deletion_is_training_without(where: str, hard: tuple[Sisa, Artifact], digits_data: Data) -> None:
    """With BatchNorm, dropout, Adam and augmentation, whatever seed the deletion runs with."""
    method, artifact = hard
    positions, shard, piece = places(digits_data, method)
    items = {
        "first slice": positions[(shard == 1) & (piece == 0)][:1],
        "last slice": positions[(shard == 1) & (piece == 3)][:1],
        "tail": positions[(shard == 2) & (piece == 3)][-1:],
        "several": positions[::97],
    }[where]
    request = Request.of(items=items.tolist())
    made = deletion(artifact, digits_data, request)
    assert_equal(made, *from_the_start(digits_data, method, HARD, request))
    assert made.record.weights_after != artifact.record.weights_after


@settings(max_examples=8, deadline=None)
@given(choice=st.data())
def test_check_1_over_random_sequences_of_requests(choice: Any) -> None:
    data = load("digits")
    shards, slices = (choice.draw(st.integers(1, 4)) for _ in range(2))
    method = Sisa(shards=shards, slices=slices, vote=choice.draw(st.sampled_from(["mean", "vote"])))
    recipe = QUICK.but(epochs=choice.draw(st.sampled_from([2, 2.5, 3])))
    artifact, served = trained(data, method, recipe), []
    left = Split.of(data).train.indices
    for _ in range(2):
        items = choice.draw(st.lists(st.sampled_from(left.tolist()), min_size=1, max_size=5, unique=True))
        served.append(Request.of(items=items))
        artifact = deletion(artifact, data, served[-1])
        left = np.setdiff1d(left, items)
    assert_equal(artifact, *from_the_start(data, method, recipe, *served))


def test_check_1_a_class_is_a_retraining_and_exact(hard: tuple[Sisa, Artifact], digits_data: Data) -> None:
    method, artifact = hard
    made = deletion(artifact, digits_data, Request.of(classes=[4]))
    assert_equal(made, *from_the_start(digits_data, method, HARD, Request.of(classes=[4])))
    assert any("every shard, so this is a retraining" in note for note in made.record.notes)


def test_check_2_and_3_untouched_shards_and_slices_run_no_step(hard: tuple[Sisa, Artifact], digits_data: Data) -> None:
    method, artifact = hard
    positions, shard, piece = places(digits_data, method)
    item = int(positions[(shard == 1) & (piece == 2)][0])
    made = deletion(artifact, digits_data, Request.of(items=[item]))
    stages = [r["stage"] for r in made.record.history if "loss" in r]
    epochs = epochs_by_slice(HARD.epochs, 4)
    assert stages == [f"sisa/shard 1/slice {j}" for j in (2, 3) for _ in range(int(epochs[j]))]
    before, after = artifact.model.state_dict(), made.model.state_dict()
    same = {k.split(".")[1] for k in after if k.startswith("members.") and torch.equal(before[k], after[k])}
    changed = {k.split(".")[1] for k in after if k.startswith("members.") and not torch.equal(before[k], after[k])}
    assert changed == {"1"}
    assert same >= {"0", "2"}
    kept = [k for k in artifact.memory if k.startswith("shards/1/2/")]
    assert any(not torch.equal(artifact.memory[k], made.memory[k]) for k in kept)
    assert all(torch.equal(artifact.memory[k], made.memory[k]) for k in artifact.memory if k not in kept)


def test_check_2_files_of_untouched_shards_and_slices_keep_their_bytes(
    hard: tuple[Sisa, Artifact], digits_data: Data, tmp_path: Path
) -> None:
    method, artifact = hard
    positions, shard, piece = places(digits_data, method)
    request = Request.of(items=[int(positions[(shard == 1) & (piece == 2)][0])])
    before, after = artifact.save(tmp_path / "a"), deletion(artifact, digits_data, request).save(tmp_path / "b")
    files = {p.relative_to(before).as_posix() for p in (before / "shards").rglob("*.safetensors")}
    assert files == {f"shards/{k}/{j}.safetensors" for k in range(3) for j in range(3)}
    assert {f for f in files if (before / f).read_bytes() != (after / f).read_bytes()} == {"shards/1/2.safetensors"}


def test_check_3_every_step_of_the_slices_touched_and_no_other(
    hard: tuple[Sisa, Artifact], digits_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over j >= j* of e_j times the batches of slices 1..j, without what was deleted."""
    method, artifact = hard
    positions, shard, piece = places(digits_data, method)
    taken, one = [], Trainer._one
    monkeypatch.setattr(Trainer, "_one", lambda self: (taken.append(self.stage), one(self))[1])
    gone = positions[(shard == 2) & (piece == 1)][:3]
    deletion(artifact, digits_data, Request.of(items=gone.tolist()))
    epochs, expected = epochs_by_slice(HARD.epochs, 4), 0
    for j in (1, 2, 3):
        whole, rest = divmod(int(((shard == 2) & (piece <= j)).sum()) - 3, HARD.batch_size)
        expected += int(epochs[j]) * (whole + (rest > 1))
    assert len(taken) == expected > 0
    assert {stage.rsplit("/", 1)[0] for stage in taken} == {"sisa/shard 2"}


def test_check_3_a_deletion_costs_two_thirds_of_a_shard_on_average(digits_data: Data) -> None:
    """(2R + 1) / (3R), by sample visits over the slices."""
    epochs = epochs_by_slice(60, 4)
    visits = [e * (j + 1) / 4 for j, e in enumerate(epochs)]
    mean = np.mean([sum(visits[j:]) for j in range(4)]) / sum(visits)
    assert mean == pytest.approx((2 * 4 + 1) / (3 * 4), abs=0.01)


def test_check_4_one_shard_and_slice_is_plain_training(digits_data: Data) -> None:
    method = Sisa(shards=1, slices=1)
    artifact = trained(digits_data, method, QUICK)
    request = Request.of(items=[int(Split.of(digits_data).train.indices[5])])
    made = deletion(artifact, digits_data, request)
    split = Split.of(digits_data, earlier=[request])
    alone = Sisa(shards=1, slices=1).train(with_dropout(), split, QUICK, Run(seed=3, device="cpu"))[0]
    x, _ = split.test.tensors()
    torch.testing.assert_close(made.model(x), alone.eval().members[0](x).log_softmax(1))


def test_check_5_an_emptied_shard_leaves_the_vote(digits_data: Data) -> None:
    method = Sisa(shards=40, slices=1)
    artifact = trained(digits_data, method, QUICK.but(epochs=1))
    positions, shard, _ = places(digits_data, method)
    request = Request.of(items=positions[shard == 7].tolist())
    made = deletion(artifact, digits_data, request)
    assert made.model.present.tolist() == [k != 7 for k in range(40)]
    assert_equal(made, *from_the_start(digits_data, method, QUICK.but(epochs=1), request))
    for unknown, said in ((request, "already forgotten"), (Request.of(items=[len(digits_data.train)]), "0 to ")):
        with pytest.raises(InputError, match=said):
            deletion(made, digits_data, unknown)


class Guarded(ArraySamples):
    """Digits of which some may not be read."""

    closed: torch.Tensor = torch.empty(0, dtype=torch.long)

    def read(self, batches: Sequence[Tensor], **how: Any) -> Iterator[Tensor]:
        assert not any(bool(torch.isin(b, self.closed).any()) for b in batches), "a deleted record was read"
        return super().read(batches, **how)


def test_check_6_no_deleted_record_is_read(hard: tuple[Sisa, Artifact], digits_data: Data) -> None:
    method, artifact = hard
    positions, shard, piece = places(digits_data, method)
    items = positions[(shard == 0) & (piece <= 1)][::20]
    train = digits_data.train
    wary = Guarded(train.inputs, train.labels, train.mean, train.std)
    closed, request = dataclasses.replace(digits_data, train=wary), Request.of(items=items.tolist())
    wary.closed = torch.from_numpy(items)
    made = deletion(artifact, closed, request)
    assert made.record.weights_after == deletion(artifact, digits_data, request).record.weights_after
    wary.closed = torch.from_numpy(positions[(shard == 0) & (piece == 1)])  # of those that stay some are read
    with pytest.raises(AssertionError, match="a deleted record was read"):
        deletion(artifact, closed, request)


def test_check_8_what_is_saved_holds_no_superseded_state(
    hard: tuple[Sisa, Artifact], digits_data: Data, tmp_path: Path
) -> None:
    method, artifact = hard
    positions, shard, piece = places(digits_data, method)
    made = deletion(artifact, digits_data, Request.of(items=[int(positions[(shard == 0) & (piece == 1)][0])]))
    made.save(tmp_path / "a")
    back = Artifact.load(tmp_path / "a", with_dropout(), rebuild=rebuilt)
    assert isinstance(back.model, Ensemble)
    assert_equal(made, back.model, back.memory)
    for j in (1, 2):
        for key in (k for k in artifact.memory if k.startswith(f"shards/0/{j}/") and k.endswith("weight")):
            assert not any(torch.equal(artifact.memory[key], v) for v in back.memory.values())


def test_check_9_accuracy_falls_slowly_with_the_number_of_shards(digits_data: Data) -> None:
    recipe, test = Recipe(lr=0.1, epochs=8, batch_size=32), Split.of(digits_data).test
    by_shards = [
        accuracy(trained(digits_data, Sisa(shards=s, slices=1), recipe, small_mlp()).model, test) for s in (1, 5)
    ]
    assert by_shards[0] - 0.08 < by_shards[1] <= by_shards[0] + 0.01
    vote = trained(digits_data, Sisa(shards=5, slices=1, vote="vote"), recipe, small_mlp()).model
    assert by_shards[1] >= accuracy(vote, test) - 0.005


def test_groups_are_deleted_from_one_shard(digits_data: Data) -> None:
    data = dataclasses.replace(digits_data, groups=np.arange(len(digits_data.train)) // 5)
    artifact = trained(data, Sisa(shards=4, slices=2, groups=True), QUICK)
    request = Request.of(groups=[11])
    made = deletion(artifact, data, request)
    assert any("1 of 4 shards" in note for note in made.record.notes)
    assert_equal(made, *from_the_start(data, Sisa(shards=4, slices=2, groups=True), QUICK, request))


def test_retraining_an_ensemble_trains_its_members_apart(hard: tuple[Sisa, Artifact], digits_data: Data) -> None:
    method, artifact = hard
    request = Request.of(items=[int(Split.of(digits_data).train.indices[0])])
    made = apply(Retrain(), Case(artifact, Split.of(digits_data, request), Run(seed=11, device="cpu")))
    alone = method.train(with_dropout(), Split.of(digits_data, earlier=[request]), HARD, Run(seed=11, device="cpu"))[0]
    assert all(torch.equal(v, alone.state_dict()[k]) for k, v in made.model.state_dict().items())
    with pytest.raises(InputError, match="retrain has changed these members"):
        deletion(made, digits_data, Request.of(items=[int(Split.of(digits_data).train.indices[1])]))


def test_a_chain_of_requests_is_what_retraining_gives_from_the_same_seed(digits_data: Data) -> None:
    """So a chain and its retrained ensembles are draws of one law, and what an audit finds between them is chance."""
    method = Sisa(shards=3, slices=2)
    artifact = trained(digits_data, method, QUICK)
    positions = Split.of(digits_data).train.indices
    for request in (Request.of(items=positions[3:40:9].tolist()), Request.of(classes=[4])):
        before, split = artifact, Split.of(digits_data, request, earlier=artifact.record.earlier_requests)
        artifact = deletion(artifact, digits_data, request)
    made = apply(Retrain(), Case(before, split, Run(seed=3, device="cpu")))
    assert made.record.weights_after == artifact.record.weights_after


def test_methods_that_change_members_together_are_refused(hard: tuple[Sisa, Artifact], class_split: Split) -> None:
    _, artifact = hard
    with pytest.raises(InputError, match=r"ensemble of 3 members.*retrain, sisa"):
        apply(FineTune(), Case(artifact, class_split, Run(device="cpu")))
    with pytest.raises(InputError, match="plain training would change them together"):
        prepare(None, artifact.model, Split.of(class_split.data), QUICK, Run(device="cpu"))


def test_frozen_parameters_are_refused(digits_data: Data) -> None:
    model = small_cnn()
    model[0].weight.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        prepare(Sisa(), model, Split.of(digits_data), QUICK, Run(device="cpu"))


@pytest.mark.parametrize(("epochs", "slices"), [(1, 3), (1, 5), (0.5, 2)])
def test_too_few_epochs_for_the_slices_are_refused(epochs: float, slices: int, digits_data: Data) -> None:
    """Whose last ones would be trained on in no epoch."""
    assert epochs_by_slice(epochs, slices)[-1] == 0
    with pytest.raises(InputError, match=rf"{slices} slices.*at least {(slices + 1) / 2:g} epochs, or fewer slices"):
        trained(digits_data, Sisa(shards=2, slices=slices), QUICK.but(epochs=epochs))
    trained(digits_data, Sisa(shards=2, slices=slices), QUICK.but(epochs=(slices + 1) / 2))


def test_hyper_parameters_of_training_stay_as_they_were(hard: tuple[Sisa, Artifact], digits_data: Data) -> None:
    """Given for forgetting they would do nothing, and the record would name them."""
    method, artifact = hard
    request = Request.of(items=[int(Split.of(digits_data).train.indices[0])])
    case = Case(artifact, Split.of(digits_data, request), Run(seed=9, device="cpu"))
    with pytest.raises(InputError, match=r"sisa reads shards when it trains.*shards=2 \(trained with 3\)"):
        apply(Sisa(shards=2), case)
    assert apply(Sisa(), case).record.settings == method.settings()


def test_a_plain_artifact_is_refused(trained: dict[str, Artifact], class_split: Split) -> None:
    with pytest.raises(NotPreparedError, match="members trained apart"):
        Sisa().check(trained["mlp"], class_split)


def test_what_is_kept_for_a_stop_goes_when_the_artifact_is_saved(digits_data: Data, tmp_path: Path) -> None:
    kept, run = tmp_path / "kept", Run(seed=3, device="cpu", checkpoints=tmp_path / "kept")
    original = prepare(Sisa(shards=2, slices=2), with_dropout(), Split.of(digits_data), QUICK, run)
    assert len(list(kept.iterdir())) == 4
    original.save(tmp_path / "original")
    assert not list(kept.iterdir())
    own = Run(seed=9, device="cpu", checkpoints=kept)
    request = Request.of(items=[int(Split.of(digits_data).train.indices[5])])
    made = apply(Sisa(), Case(original, Split.of(digits_data, request), own))
    assert 1 <= len(list(kept.iterdir())) <= 2
    made.save(tmp_path / "made")
    assert not list(kept.iterdir())
