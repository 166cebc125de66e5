"""Amnesiac unlearning by stored updates (Graves et al.): baselines.md section 2 and check 8."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.data.epoch import Epoch
from efface.errors import InputError, NotPreparedError
from efface.methods.amnesiac.amnesiac import Amnesiac
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import make
from efface.methods.fine_tune import FineTune
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe
from tests.methods.conftest import accuracy, small_cnn, small_mlp

RECIPE = Recipe(lr=0.1, epochs=2, batch_size=64, weight_decay=5e-4)
HOLDS, UPDATE = "amnesiac/holds", "amnesiac/updates/"
Model = nn.Module


def trained_by(method: Amnesiac, data: Data, model: Model | None = None, recipe: Recipe = RECIPE) -> Artifact:
    return prepare(method, model or small_mlp(), Split.of(data), recipe, Run(device="cpu"))


def forgotten(artifact: Artifact, data: Data, request: Request, **settings: float) -> Artifact:
    split = Split.of(data, request, earlier=artifact.record.earlier_requests)
    return apply(Amnesiac(**{"epochs": 0, **settings}), Case(artifact, split, Run(device="cpu")))


def steps_by_hand(model: Model, data: Data) -> list[tuple[set[int], dict[str, Tensor]]]:
    """Train with a loop of its own; each step's records and its change of every parameter."""
    part, run = Split.of(data).train, Run(device="cpu")
    optimiser = torch.optim.SGD(model.parameters(), lr=RECIPE.lr, momentum=RECIPE.momentum, weight_decay=5e-4)
    model.train()
    steps = []
    for epoch in range(2):
        ordered, read = (Epoch(RECIPE.batch_size, generator=run.generator(f"train/epoch {epoch}")) for _ in range(2))
        for positions, (x, y) in zip(part.order(ordered), part.batches(read), strict=True):
            before = copy.deepcopy(dict(model.named_parameters()))
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
            change = {k: (p - before[k]).detach() for k, p in model.named_parameters()}
            steps.append((set(part.indices[positions.numpy()].tolist()), change))
    return steps


def test_training_is_plain_training_bit_for_bit(digits_data: Data) -> None:
    for network in (small_mlp, small_cnn):
        logged = trained_by(Amnesiac(classes=(0,), items=(1, 2)), digits_data, network())
        plain = prepare(None, network(), Split.of(digits_data), RECIPE, Run(device="cpu"))
        assert logged.record.weights_after == plain.record.weights_after


@pytest.mark.parametrize("network", [small_mlp, small_cnn])
def test_check_8_all_updates_together_give_back_the_initial_weights(
    network: Callable[[], Model], digits_data: Data
) -> None:
    """Every batch counts, as class 0 to 9 are declared; forgetting 0 to 8 takes all batches that hold one of them."""
    artifact = trained_by(Amnesiac(classes=tuple(range(10))), digits_data, network())
    start = dict(network().named_parameters())
    for name, p in artifact.model.named_parameters():
        given_back = p.detach() - artifact.memory[UPDATE + name].double().sum(0)
        torch.testing.assert_close(given_back.float(), start[name].detach(), atol=1e-5, rtol=0)
    made = forgotten(artifact, digits_data, Request.of(classes=list(range(9))))
    for name, p in made.model.named_parameters():
        torch.testing.assert_close(p, start[name], atol=1e-5, rtol=0)
    assert len(made.memory[HOLDS]) == 0


def test_subtracts_the_changes_of_exactly_the_batches_that_hold_a_record(digits_data: Data) -> None:
    """Against a training loop of its own: five declared items, two of them forgotten, then a third."""
    items = [int(i) for i in Split.of(digits_data).train.indices[[3, 50, 400, 800, 1100]]]
    artifact = trained_by(Amnesiac(items=tuple(items)), digits_data)
    model = small_mlp()
    steps = steps_by_hand(model, digits_data)
    torch.testing.assert_close(dict(artifact.model.named_parameters()), dict(model.named_parameters()))

    for gone, made in (
        (items[:2], first := forgotten(artifact, digits_data, Request.of(items=items[:2]))),
        (items[:3], forgotten(first, digits_data, Request.of(items=[items[2]]))),  # nothing is subtracted twice
    ):
        for name, p in model.named_parameters():
            wanted = p.detach() - sum(change[name] for held, change in steps if held & set(gone))
            torch.testing.assert_close(dict(made.model.named_parameters())[name].detach(), wanted, atol=1e-5, rtol=0)


def test_only_sensitive_batches_are_stored_and_equal_ones_are_summed(digits_data: Data) -> None:
    item = int(Split.of(digits_data).train.indices[10])
    artifact = trained_by(Amnesiac(items=(item,)), digits_data)
    assert artifact.memory[HOLDS].tolist() == [[True]]  # two batches of two epochs, one sum
    assert any("2 batches stored as 1 sums" in note for note in artifact.record.notes)
    pair = trained_by(Amnesiac(items=(item, int(Split.of(digits_data).train.indices[11]))), digits_data)
    assert 1 < len(pair.memory[HOLDS]) <= 3
    assert pair.memory[HOLDS].any(1).all()
    held_out = int(Split.of(digits_data).validation.indices[0])
    nothing = trained_by(Amnesiac(items=(held_out,)), digits_data)
    assert nothing.memory[UPDATE + next(iter(dict(small_mlp().named_parameters())))].shape == (0, 64, 64)


def test_batch_norm_statistics_stay_without_fine_tuning_and_frozen_parameters_are_not_stored(
    digits_data: Data,
) -> None:
    model = small_cnn()
    model[0].weight.requires_grad_(False)
    artifact = trained_by(Amnesiac(classes=(0,)), digits_data, model)
    assert UPDATE + "0.weight" not in artifact.memory
    made = forgotten(artifact, digits_data, Request.of(classes=[0]))
    for key, value in artifact.model.state_dict().items():
        unchanged = torch.equal(value, made.model.state_dict()[key])
        assert unchanged == (key == "0.weight" or "running" in key or "num_batches" in key)


def test_forgets_an_item_and_keeps_the_rest(digits_data: Data) -> None:
    """After eight epochs one item's batches are a twentieth of training; one epoch of fine-tuning mends the rest."""
    item = int(Split.of(digits_data).train.indices[10])
    artifact = trained_by(Amnesiac(items=(item,)), digits_data, recipe=RECIPE.but(epochs=8))
    request = Request.of(items=[item])
    split = Split.of(digits_data, request)
    made = forgotten(artifact, digits_data, request, epochs=1)
    assert accuracy(made.model, split.retain) > 0.95
    assert accuracy(made.model, split.test_retain) > 0.9


def test_a_class_goes_and_the_fine_tuning_brings_back_the_others(digits_data: Data) -> None:
    """A class of ten is in almost every batch, so that little but the initial weights is left to fine-tune from."""
    request = Request.of(classes=[0])
    artifact = trained_by(Amnesiac(classes=(0,)), digits_data)
    split = Split.of(digits_data, request)
    assert accuracy(forgotten(artifact, digits_data, request).model, split.test_retain) < 0.5
    made = forgotten(artifact, digits_data, request, epochs=4, lr=0.05)
    assert accuracy(made.model, split.test_forget) == 0
    assert accuracy(made.model, split.test_retain) > 0.9


def test_later_requests_are_told_what_the_log_does_not_hold(digits_data: Data) -> None:
    artifact = trained_by(Amnesiac(classes=(0, 1)), digits_data)
    first = forgotten(artifact, digits_data, Request.of(classes=[0]), epochs=1)
    assert not any("not in the log" in note for note in first.record.notes)
    assert first.memory["amnesiac/classes"].tolist() == [1]
    assert first.memory[HOLDS].shape[1] == 1
    second = forgotten(first, digits_data, Request.of(classes=[1]))
    assert any("1 later step is not in the log of this model's training (amnesiac)" in n for n in second.record.notes)
    split = Split.of(digits_data, Request.of(classes=[5]))
    tuned = apply(FineTune(), Case(artifact, split, Run(device="cpu")))
    third = forgotten(tuned, digits_data, Request.of(classes=[1]))
    assert any("(fine-tune)" in n for n in third.record.notes)


def test_what_was_not_declared_is_refused(digits_data: Data) -> None:
    labels, trained = digits_data.train_labels, Split.of(digits_data).train.indices
    zeros = trained[labels[trained] == 0].tolist()
    ones = trained[labels[trained] == 1].tolist()
    artifact = trained_by(Amnesiac(classes=(0,), items=tuple(ones)), digits_data)
    with pytest.raises(NotPreparedError, match=r"class 2 was not declared.*efface train --method amnesiac"):
        forgotten(artifact, digits_data, Request.of(classes=[0, 2]))
    with pytest.raises(NotPreparedError, match="1 of 2 items were not declared"):
        forgotten(artifact, digits_data, Request.of(items=[zeros[0], ones[0]]))
    made = forgotten(artifact, digits_data, Request.of(classes=[1]))  # all of its records are declared
    assert made.record.weights_after != artifact.record.weights_after
    held_out = np.setdiff1d(np.arange(len(labels)), trained)
    forgotten(artifact, digits_data, Request.of(items=[ones[0], int(held_out[0])]))  # never trained on, so no update


def test_training_refuses_what_does_not_fit_before_it_starts(digits_data: Data) -> None:
    with pytest.raises(InputError, match="give `classes` or `items`"):
        trained_by(Amnesiac(), digits_data)
    with pytest.raises(InputError, match=r"classes out of range: \[10\]; allowed: 0 to 9"):
        trained_by(Amnesiac(classes=(10,)), digits_data)
    with pytest.raises(InputError, match=r"items out of range"):
        trained_by(Amnesiac(items=(1347,)), digits_data)
    parameters = sum(p.numel() for p in small_mlp().parameters())
    one = 4 * parameters + 1  # one class, one sum whatever the epochs
    assert len(trained_by(Amnesiac(classes=(0,), memory_limit=one), digits_data).memory[HOLDS]) == 1
    with pytest.raises(InputError, match=rf"store 1 updates of {one} bytes, {one} bytes in all; memory_limit is"):
        trained_by(Amnesiac(classes=(0,), memory_limit=one - 1), digits_data)
    with pytest.raises(InputError, match="store 38 updates"):  # every batch of two epochs of 1213 samples
        trained_by(Amnesiac(classes=tuple(range(10)), memory_limit=one), digits_data)


def test_saved_and_loaded_forgets_the_same(digits_data: Data, tmp_path: Path) -> None:
    artifact = trained_by(Amnesiac(items=(7, 8, 9)), digits_data)
    back = Artifact.load(artifact.save(tmp_path / "trained"), small_mlp(seed=9))
    request = Request.of(items=[7])
    one, other = (forgotten(a, digits_data, request, epochs=1) for a in (artifact, back))
    assert one.record.weights_after == other.record.weights_after


def test_settings_come_from_the_command_line_as_words() -> None:
    assert make("amnesiac", {"classes": "0,3", "items": "5 6"}) == Amnesiac(classes=(0, 3), items=(5, 6))
    for settings in ({"classes": "-1"}, {"memory_limit": -1}, {"epochs": -1}, {"lr": "inf"}, {"items": "a"}):
        with pytest.raises(InputError, match="amnesiac"):
            make("amnesiac", settings)
