"""Decay: the checks of its sheet by number."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.data import ArraySamples, Data, Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.importance import Unit, ablation_importance, seconds_of_ablation, unit_list
from efface.methods.applying import apply, prepare
from efface.methods.decay import Decay, _of_each_class, fade
from efface.request import Request
from efface.running.progress import ConsoleProgress
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe
from tests.methods.conftest import accuracy


def run(seed: int = 1) -> Run:
    return Run(seed=seed, device="cpu")


class Block(nn.Module):
    """A residual block with BatchNorm and an in-place ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)), inplace=True)


def residual(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1), Block(6), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10)
        )


@pytest.fixture(scope="module")
def networks(trained: dict[str, Artifact], digits_data: Data) -> dict[str, Artifact]:
    recipe = Recipe(lr=0.05, epochs=4, batch_size=64)
    made = prepare(None, residual(), Split.of(digits_data), recipe, run())
    return {"cnn": trained["cnn"], "residual": made}


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def selected(model: nn.Module, units: list[Unit]) -> dict[str, Tensor]:
    """Masks, by state-dict name, of the entries that belong to units; written without the code under test."""
    masks = {k: torch.zeros_like(v, dtype=torch.bool) for k, v in model.state_dict().items()}
    for unit in units:
        masks[f"{unit.layer}.weight"][unit.index] = True
        if len(unit.index) == 1 and f"{unit.layer}.bias" in masks:
            masks[f"{unit.layer}.bias"][unit.index] = True
    return masks


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: before[k] != after[k] for k in before}


def naive_order(model: nn.Module, part: Part) -> list[tuple[float, Unit]]:
    """Accuracy lost by zeroing each unit of a fresh copy, one full pass at a time."""
    x, y = part.tensors()
    losses = []
    for unit in unit_list(model):
        twin = copy.deepcopy(model).eval()
        layer = twin.get_submodule(unit.layer)
        with torch.no_grad():
            layer.weight[unit.index[0]] = 0
            if layer.bias is not None:
                layer.bias[unit.index[0]] = 0
            lost = (model(x).argmax(1) == y).sum() - (twin(x).argmax(1) == y).sum()
        losses.append((int(lost) / len(y), unit))
    return losses


def test_importances_of_the_authors_code_leave_the_biases_of_convolutions(
    networks: dict[str, Artifact], class_split: Split
) -> None:
    """Its loop, filter by filter and neuron by neuron; decay then fades weights and biases of what it picked."""
    model = copy.deepcopy(networks["residual"].model).eval()
    with torch.no_grad():
        model.get_submodule("0").bias += 0.3  # a bias that matters
    artifact = dataclasses.replace(networks["residual"], model=model)
    x, y = class_split.forget.tensors()
    right, drops = (model(x).argmax(1) == y).float().mean(), []
    for unit in unit_list(model):
        twin = copy.deepcopy(model)
        layer = twin.get_submodule(unit.layer)
        with torch.no_grad():
            layer.weight[unit.index[0]] = 0
            if isinstance(layer, nn.Linear):
                layer.bias[unit.index[0]] = 0
            drops.append((float(right - (twin(x).argmax(1) == y).float().mean()), unit))
    method = Decay(top=0.2, steps=1, threshold=0, fine_tune="none", conv_bias=False)
    found = [Unit(u.layer, u.index) for u in method._chosen(model, class_split, run())]
    count = int(0.2 * len(drops) + 1e-9)
    border = sorted((d for d, _ in drops), reverse=True)[count - 1]
    assert len(found) == count
    assert {u for d, u in drops if d > border} <= set(found) <= {u for d, u in drops if d >= border}
    after = apply(method, Case(artifact, class_split, run())).model
    changed = moved(state(model), state(after))
    assert all(bool(changed[f"{u.layer}.bias"][u.index]) for u in found)
    other = Decay(top=0.2, steps=1, threshold=0, fine_tune="none")._chosen(model, class_split, run())
    assert set(other) != set(found)


@pytest.mark.parametrize("network", ["cnn", "residual"])
def test_check_1_decayed_units_are_the_top_of_the_naive_loop(
    network: str, networks: dict[str, Artifact], class_split: Split
) -> None:
    artifact = networks[network]
    drops = naive_order(artifact.model.eval(), class_split.forget)
    found = ablation_importance(artifact.model, *class_split.forget.tensors())
    assert [(drop, unit) for drop, unit in zip(found.accuracy_drop.tolist(), found.units, strict=True)] == drops
    made = apply(Decay(fine_tune="none", top=0.2, steps=1, rate=0.5), Case(artifact, class_split, run()))
    changed = moved(artifact.model.state_dict(), made.model.state_dict())
    count = int(0.2 * len(drops))
    least = sorted((drop for drop, _ in drops), reverse=True)[count - 1]
    decayed = [(drop, u) for drop, u in drops if changed[f"{u.layer}.weight"][u.index].any()]
    assert len(decayed) == count
    assert min(drop for drop, _ in decayed) == least
    assert {u for drop, u in drops if drop > least} <= {u for _, u in decayed}


def test_check_2_no_rate_no_change(networks: dict[str, Artifact], class_split: Split) -> None:
    made = apply(Decay(fine_tune="none", rate=0.0, steps=3), Case(networks["cnn"], class_split, run()))
    before = networks["cnn"].model.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in made.model.state_dict().items())


@pytest.mark.parametrize("units", ["filter", "neuron", "weight"])
def test_check_2_steps_multiply(units: Any, networks: dict[str, Artifact], class_split: Split) -> None:
    model = networks["residual"].model
    some = unit_list(model, units)[::3]
    step_by_step, at_once = copy.deepcopy(model), copy.deepcopy(model)
    for _ in range(7):
        fade(step_by_step, some, math.exp(-0.2))
    fade(at_once, some, math.exp(-1.4))
    masks = selected(model, some)
    for name, value in step_by_step.state_dict().items():
        # seven float32 roundings of 6e-8 each
        torch.testing.assert_close(value, at_once.state_dict()[name], rtol=1e-6, atol=0)
        if masks[name].any():
            faded = model.state_dict()[name][masks[name]] * math.exp(-1.4)
            torch.testing.assert_close(at_once.state_dict()[name][masks[name]], faded)
        assert torch.equal(value[~masks[name]], model.state_dict()[name][~masks[name]])


def test_check_3_only_the_selected_units_change(networks: dict[str, Artifact], class_split: Split) -> None:
    artifact = networks["cnn"]
    found = ablation_importance(artifact.model.eval(), *class_split.forget.tensors())
    best = found.top(int(0.1 * len(found.units)))
    made = apply(Decay(fine_tune="none"), Case(artifact, class_split, run()))
    changed = moved(artifact.model.state_dict(), made.model.state_dict())
    masks = selected(artifact.model, best)
    assert any(m.any() for m in changed.values())
    assert not any((changed[k] & ~masks[k]).any() for k in masks)  # BatchNorm's weights and buffers are in no unit


def test_check_3_single_weights_leave_biases(networks: dict[str, Artifact], class_split: Split) -> None:
    artifact = networks["residual"]
    method = Decay(units="weight", fine_tune="none", steps=2, top=0.05, threshold=0.0)
    made = apply(method, Case(artifact, class_split, run()))
    changed = moved(artifact.model.state_dict(), made.model.state_dict())
    assert {k.rpartition(".")[2] for k, m in changed.items() if m.any()} == {"weight"}
    count = int(0.05 * len(unit_list(artifact.model, "weight")))
    assert sum(int(m.sum()) for m in changed.values()) == count  # no trained weight is exactly 0 here


def decayed_rows(artifact: Artifact, split: Split, method: Decay, seed: int) -> frozenset[tuple[str, int]]:
    made = apply(method, Case(artifact, split, run(seed)))
    changed = moved(artifact.model.state_dict(), made.model.state_dict())
    return frozenset(
        (u.layer, u.index[0]) for u in unit_list(artifact.model) if changed[f"{u.layer}.weight"][u.index[0]].any()
    )


def test_check_4_random_control_repeats_and_avoids_the_top(networks: dict[str, Artifact], class_split: Split) -> None:
    artifact = networks["cnn"]
    quick = Decay(fine_tune="none", steps=1, threshold=0.0)
    control = dataclasses.replace(quick, random=True)
    assert decayed_rows(artifact, class_split, control, 1) == decayed_rows(artifact, class_split, control, 1)
    drawn = {decayed_rows(artifact, class_split, control, seed) for seed in range(4)}
    assert len(drawn) > 1
    assert all(len(rows) == int(0.1 * len(unit_list(artifact.model))) for rows in drawn)


def test_check_4_random_control_is_never_the_importance_set(digits_data: Data, class_split: Split) -> None:
    """Of two units one is chosen: the control must take the other, whatever the seed."""
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Linear(1, 10))
    artifact = prepare(None, model, Split.of(digits_data), Recipe(lr=0.01, epochs=0.1, batch_size=64), run())
    quick = Decay(fine_tune="none", steps=1, threshold=0.0, top=10 / 11)
    best = decayed_rows(artifact, class_split, quick, 0)
    control = dataclasses.replace(quick, random=True)
    assert all(decayed_rows(artifact, class_split, control, seed) != best for seed in range(25))
    with pytest.raises(InputError, match="no random set beside it"):
        apply(dataclasses.replace(control, top=1.0), Case(artifact, class_split, run()))


class Closed(ArraySamples):
    """Samples that must not be read."""

    def __init__(self, source: ArraySamples) -> None:
        super().__init__(source.inputs, source.labels, source.mean, source.std)

    def read(self, batches: Sequence[Tensor], **_: Any) -> Iterator[Tensor]:
        raise AssertionError("test data was read")


@pytest.mark.parametrize("fine_tune", ["none", "after_all", "after_each", "only"])
def test_check_5_the_test_set_is_never_read(fine_tune: Any, networks: dict[str, Artifact], digits_data: Data) -> None:
    closed = dataclasses.replace(digits_data, test=Closed(digits_data.test))
    split = Split.of(closed, Request.of(classes=[0]))
    made = apply(Decay(fine_tune=fine_tune, batches=2, epochs=0.2), Case(networks["cnn"], split, run()))
    assert made.record.weights_after != networks["cnn"].record.weights_after


def test_check_6_a_row_for_every_step(networks: dict[str, Artifact], class_split: Split) -> None:
    work = run()
    made = apply(Decay(batches=3), Case(networks["cnn"], class_split, work))
    rows = work.history.of("decay")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["batches"] for row in rows] == [3 * row["step"] for row in rows]
    assert all(row["forget_accuracy"] >= 0.05 for row in rows[:-1])
    assert rows[-1]["forget_accuracy"] < 0.05
    assert rows[-1]["forget_accuracy"] == pytest.approx(accuracy(made.model, class_split.validation_forget), abs=1e-6)
    assert rows[-1]["retain_accuracy"] == pytest.approx(accuracy(made.model, class_split.validation_retain), abs=1e-6)
    (first,) = work.history.of("decay/before")
    assert first["forget_accuracy"] == pytest.approx(
        accuracy(networks["cnn"].model, class_split.validation_forget), abs=1e-6
    )


def test_the_order_of_the_data_runs_on_across_steps(networks: dict[str, Artifact], class_split: Split) -> None:
    """With no decay, steps of a few batches must equal one stretch of as many batches."""
    rates = {"rate": 0.0, "threshold": 0.0}
    pieces = apply(Decay(batches=2, steps=6, **rates), Case(networks["cnn"], class_split, run()))
    stretch = apply(Decay(batches=12, steps=1, **rates), Case(networks["cnn"], class_split, run()))
    assert pieces.record.weights_after == stretch.record.weights_after


def test_only_fine_tuning_reads_no_importance(networks: dict[str, Artifact], class_split: Split) -> None:
    work = run()
    made = apply(Decay(fine_tune="only", epochs=1), Case(networks["cnn"], class_split, work))
    assert not work.history.of("decay")
    (row,) = work.history.of("decay/after")
    assert row["batches"] == math.ceil(len(class_split.retain) / 64)
    assert made.record.weights_after != networks["cnn"].record.weights_after


def test_without_fine_tuning_no_retained_training_data_is_read() -> None:
    assert set(Decay(fine_tune="none").reads()) == {"forget", "validation"}
    assert "retain" in Decay(fine_tune="none", importance_from="all").reads()
    assert "retain" in Decay(fine_tune="after_all").reads()


def test_without_validation_the_early_stop_says_what_it_looks_at(
    networks: dict[str, Artifact], digits_data: Data
) -> None:
    split = Split.of(digits_data, Request.of(classes=[0]), validation=0.0)
    work = run()
    made = apply(Decay(fine_tune="none"), Case(networks["cnn"], split, work))
    assert any("no validation part" in note for note in work.notes)
    last = work.history.of("decay")[-1]
    assert last["forget_accuracy"] == pytest.approx(accuracy(made.model, split.forget), abs=1e-6)
    assert "retain_accuracy" not in last


def test_several_classes_are_forgotten_by_union(networks: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=[1, 6]))
    made = apply(Decay(top=0.2, batches=10), Case(networks["cnn"], split, run()))
    # 90 test images of two classes and 14 + 14 validation images: the threshold of 5 % with room for sampling
    assert accuracy(made.model, split.test_forget) < 0.15
    assert accuracy(made.model, split.test_retain) > 0.9


def test_the_forgotten_class_goes_and_the_others_stay(networks: dict[str, Artifact], class_split: Split) -> None:
    artifact = networks["cnn"]
    assert accuracy(artifact.model, class_split.test_forget) > 0.9
    made = apply(Decay(batches=10), Case(artifact, class_split, run()))
    assert accuracy(made.model, class_split.test_forget) < 0.15
    assert accuracy(made.model, class_split.test_retain) > accuracy(artifact.model, class_split.test_retain) - 0.05


def test_a_fraction_of_the_importance_set_takes_every_class(networks: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=[2, 5]))
    work = run()
    method = Decay(fine_tune="none", steps=1, importance_from="all", importance_fraction=0.1)
    apply(method, Case(networks["cnn"], split, work))
    counts = np.bincount(split.train.labels.numpy())
    expected = sum(max(1, round(0.1 * n)) for n in counts)
    assert any(f"on {expected} samples" in note for note in work.notes)


def test_screening_agrees_with_the_exact_importance(networks: dict[str, Artifact], class_split: Split) -> None:
    """With every unit a candidate the result is the exact one; with few, the exactly ranked part of it mostly is."""
    artifact = networks["cnn"]
    quick = Decay(fine_tune="none", steps=1, threshold=0.0)
    exact = decayed_rows(artifact, class_split, quick, 0)
    assert decayed_rows(artifact, class_split, dataclasses.replace(quick, screen=100.0), 0) == exact
    work = run()
    apply(dataclasses.replace(quick, screen=2.0), Case(artifact, class_split, work))
    assert any(f"exact importance of {2 * len(exact)} on" in note for note in work.notes)
    assert exact & decayed_rows(artifact, class_split, dataclasses.replace(quick, screen=2.0), 0)


def test_units_are_screened_by_itself_where_exact_importance_would_take_too_long(
    networks: dict[str, Artifact], class_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time: exact; twice the wanted in time: these; else scores alone. Each by the clock of counted operations."""
    artifact, quick = networks["cnn"], Decay(fine_tune="none", steps=1, threshold=0.0)
    part, units = class_split.forget, unit_list(artifact.model)
    whole = seconds_of_ablation(artifact.model, part.tensors()[0], units, len(part))
    rows = {}
    for patience, said in (
        (whole, "exact importance of all on"),
        (0.5 * whole, f"exact importance of {2 * int(0.1 * len(units))} on"),
        (0.1 * whole, "chosen by first-order score alone"),
    ):
        monkeypatch.setattr("efface.methods.decay._PATIENCE", patience)
        work = run()
        rows[patience] = decayed_rows(artifact, class_split, quick, 0)
        apply(quick, Case(artifact, class_split, work))
        assert any(said in note for note in work.notes), work.notes
        assert any("expected to take" in note for note in work.notes) == (patience < whole)
    exact, screened, scored = rows.values()
    assert exact == decayed_rows(artifact, class_split, dataclasses.replace(quick, screen=None), 0)
    assert screened == decayed_rows(artifact, class_split, dataclasses.replace(quick, screen=2.0), 0)
    assert len(scored) == len(exact)
    assert exact & scored


def test_time_left_is_shown_while_importance_is_measured(
    networks: dict[str, Artifact], class_split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Run(seed=1, device="cpu", progress=ConsoleProgress(every=0.0))
    work.progress.console = Console(file=io.StringIO(), force_terminal=False)
    apply(Decay(fine_tune="none", steps=1, threshold=0.0), Case(networks["cnn"], class_split, work))
    assert re.search(r"decay: what units are worth: \d+ of \d+, \d+ s left", capsys.readouterr().err)


def test_frozen_layers_stay(class_split: Split, networks: dict[str, Artifact]) -> None:
    model = copy.deepcopy(networks["cnn"].model)
    for p in model[0].parameters():
        p.requires_grad_(False)
    given = dataclasses.replace(networks["cnn"], model=model)
    made = apply(Decay(fine_tune="none", top=0.9, steps=2, threshold=0.0), Case(given, class_split, run()))
    assert torch.equal(made.model[0].weight, model[0].weight)
    assert not torch.equal(made.model[4].weight, model[4].weight)
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        apply(Decay(fine_tune="none"), Case(given, class_split, run()))


def test_a_model_without_units_is_refused(digits_data: Data, class_split: Split) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.eye(64, 10))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.w

    artifact = prepare(None, Scale(), Split.of(digits_data), Recipe(epochs=0.1), run())
    with pytest.raises(InputError, match="no layer"):
        apply(Decay(fine_tune="none"), Case(artifact, class_split, run()))


def test_after_n_steps_the_chosen_units_are_what_the_rate_says(
    networks: dict[str, Artifact], class_split: Split
) -> None:
    """W exp(-λ n): the published schedule, through the method and not only through `fade`."""
    artifact = networks["residual"]
    made = apply(Decay(fine_tune="none", rate=0.3, steps=4, threshold=0.0), Case(artifact, class_split, run()))
    before, after = artifact.model.state_dict(), made.model.state_dict()
    changed = {k: where for k, where in moved(before, after).items() if where.any()}
    assert changed
    for name, where in changed.items():
        # four float32 roundings of 6e-8 each
        torch.testing.assert_close(after[name][where], before[name][where] * math.exp(-1.2), rtol=1e-6, atol=0)


def test_fine_tuning_is_adam_without_weight_decay(trained: dict[str, Artifact], class_split: Split) -> None:
    """Whatever the artifact was trained with: here SGD with momentum and weight decay."""
    artifact = trained["mlp"]
    assert (artifact.record.recipe.optimiser, artifact.record.recipe.weight_decay > 0) == ("sgd", True)
    made = apply(Decay(fine_tune="only", epochs=1, lr=0.01), Case(artifact, class_split, run()))
    model = copy.deepcopy(artifact.model).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, y in class_split.retain.batches(Epoch(64, generator=run().generator("decay/fine-tune/epoch 0"))):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    for ours, by_hand in zip(made.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand, atol=1e-5, rtol=1e-4)


# --- a network whose units are known --------------------------------------------------------------------------------


def planted(each: int = 4) -> Data:
    """Three classes at unit vectors."""
    labels = np.repeat(np.arange(3), each)
    samples = ArraySamples(torch.eye(3)[torch.tensor(labels)], labels)
    return Data("planted", samples, samples, tuple("abc"))


def one_unit_per_class() -> nn.Module:
    """Logit 6 for the class and 1 for the others: without its unit no record of a class is right, the others are."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.ones(3, 3) + 5 * torch.eye(3))
    return model


def by_hand(work: Run, validation: float = 0.25, **settings: Any) -> nn.Module:
    split = Split.of(planted(), Request.of(classes=[1]), validation=validation)
    artifact = given(one_unit_per_class(), split, Recipe(batch_size=4), work)
    return Decay(**{"top": 0.34, "fine_tune": "none"} | settings).forget(artifact, split, work)


def test_the_one_unit_of_a_class_fades_until_it_is_not_answered() -> None:
    """6 exp(-0.2 n) < 1 from the ninth step on."""
    work = run()
    model = by_hand(work)
    weight = one_unit_per_class()[1].weight.detach().clone()
    weight[1] *= math.exp(-0.2 * 9)
    torch.testing.assert_close(model[1].weight.detach(), weight)
    before, *steps = work.history.rows
    assert before == {"stage": "decay/before", "batches": 0, "retain_accuracy": 1.0, "forget_accuracy": 1.0}
    assert steps == [
        {"stage": "decay", "step": n, "batches": 0, "retain_accuracy": 1.0, "forget_accuracy": float(n < 9)}
        for n in range(1, 10)
    ]
    assert work.notes == [
        "decay: 1 of 3 units chosen by the exact importance of all on 3 samples; the first is 1[1], worth 100.0%",
        "decay: forget accuracy 0.0% after 9 steps, below 5%",
    ]
    assert work.failures == []


def test_a_threshold_that_is_not_reached_is_a_failure() -> None:
    work = run()
    by_hand(work, steps=8)
    assert len(work.history.of("decay")) == 8
    assert work.failures == [
        "decay: forget accuracy is still 100.0% after all 8 steps; the threshold 5% was not reached"
    ]
    work = run()
    by_hand(work, threshold=1.0, rate=0.0, steps=2)  # 100 % is not below 100 %
    assert len(work.history.of("decay")) == 2
    assert work.failures


@pytest.mark.parametrize(("fine_tune", "retain"), [("none", False), ("after_all", True)])
def test_without_validation_it_looks_at_training_data_that_it_may_read(fine_tune: Any, retain: bool) -> None:
    work = run()
    by_hand(work, validation=0.0, fine_tune=fine_tune, epochs=1, lr=1e-3)
    note = "decay: there is no validation part; the early stop and the history's accuracies are on training data"
    none = "; retained accuracy is not measured, for no retained data is read"
    assert work.notes[0] == (note if retain else note + none)
    assert ("retain_accuracy" in work.history.rows[0]) == retain
    after = work.history.of("decay/after")
    assert [row["batches"] for row in after] == ([2] if retain else [])  # 8 kept records in batches of 4


def test_screening_and_the_random_control_say_what_they_chose() -> None:
    work = run()
    by_hand(work, screen=2.0, steps=1)
    assert work.notes[0].startswith("decay: 1 of 3 units chosen by the exact importance of 2 on 3 samples; the first ")
    work = run()
    model = by_hand(work, random=True, steps=1)
    assert work.notes[1] == "decay: control with random units; 0 of them are among the top"
    assert torch.equal(model[1].weight[1], one_unit_per_class()[1].weight[1])


def test_a_share_of_each_class_is_drawn_in_order_and_at_least_one() -> None:
    part = Split.of(planted(10)).train
    drawn = _of_each_class(part, 0.3, torch.Generator().manual_seed(0))
    assert np.bincount(drawn.labels.numpy()).tolist() == [3, 3, 3]
    assert drawn.indices.tolist() == sorted(drawn.indices.tolist())
    assert drawn.indices.tolist() != [0, 1, 2, 10, 11, 12, 20, 21, 22]
    again = [_of_each_class(part, 0.3, torch.Generator().manual_seed(s)).indices.tolist() for s in (0, 1)]
    assert again[0] == drawn.indices.tolist() != again[1]
    assert len(_of_each_class(part, 0.01, torch.Generator())) == 3
    assert _of_each_class(part, 1.0, torch.Generator()) is part


def test_the_importance_set_is_drawn_from_the_runs_own_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    work, asked = Run(seed=7, device="cpu"), []

    def share(part: Part, fraction: float, generator: torch.Generator) -> Part:
        asked.append((part.name, fraction, generator.initial_seed()))
        return part

    monkeypatch.setattr("efface.methods.decay._of_each_class", share)
    by_hand(work, importance_fraction=0.25, steps=1)
    assert asked == [("forget", 0.25, work.generator("decay/importance set").initial_seed())]
