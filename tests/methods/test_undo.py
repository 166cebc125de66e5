"""UNDO: undo.md section 6."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.auditing.measures.probe import few_record_probe
from efface.data import ArraySamples, Data, Split
from efface.data.epoch import Epoch
from efface.errors import DataAccessError, InputError
from efface.methods.applying import apply
from efface.methods.retrain import Retrain
from efface.methods.undo import Undo
from efface.models.head import penultimate
from efface.models.reset import reset
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import accuracy, logits


def student(artifact: Artifact, split: Split, seed: int = 1, **settings: object) -> nn.Module:
    return apply(Undo(**settings), Case(artifact, split, Run(seed=seed, device="cpu"))).model  # type: ignore[arg-type]


def test_check_1_no_damage_and_no_steps_answer_like_the_suppressed_teacher(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    made = student(trained["mlp"], class_split, alpha=0.0, epochs=0.0, row="kept")
    before = logits(trained["mlp"].model, class_split.test)
    assert torch.equal(logits(made, class_split.test)[:, 1:], before[:, 1:])


def test_check_1_full_damage_is_a_new_network_whatever_the_original(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    other = apply(Retrain(), Case(trained["cnn"], class_split, Run(seed=9, device="cpu")))
    fresh = reset(trained["cnn"].model, Run(seed=1, device="cpu").number("undo/noise"))
    for original in (trained["cnn"].model, other.model):
        model = Run(device="cpu").copied(original)
        Undo(alpha=1.0, row="fresh").damage(model, class_split, Run(seed=1, device="cpu"), original)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), fresh.parameters(), strict=True))


def test_check_2_what_the_original_knew_does_not_pass_to_a_fresh_student(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    """Students of the original and of a retrained model differ on the class no more than two seeds' do."""
    retrained = apply(Retrain(), Case(trained["mlp"], class_split, Run(seed=9, device="cpu")))
    settings = {"alpha": 1.0, "epochs": 8.0, "lesson": "teacher"}
    answers = [
        logits(student(a, class_split, seed, **settings), class_split.forget).softmax(1)
        for a, seed in ((trained["mlp"], 1), (retrained, 1), (trained["mlp"], 2), (trained["mlp"], 3))
    ]
    knowing = (answers[0] - answers[1]).abs().sum(1).mean()
    seeds = max((answers[0] - answers[i]).abs().sum(1).mean() for i in (2, 3))
    assert knowing < seeds


def test_check_4_reads_retained_data_alone_and_no_labels_unless_asked(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    retain = class_split.only(("retain",), "the check")
    apply(Undo(), Case(trained["mlp"], retain, Run(device="cpu")))
    assert Undo().reads() == ("retain",)
    samples = class_split.data.train
    assert isinstance(samples, ArraySamples)
    labels = samples.labels.clone()
    labels[torch.from_numpy(class_split.retain.indices)] = class_split.retain.labels.roll(1)
    hashes = []
    for given in (samples.labels, labels):
        data = dataclasses.replace(class_split.data, train=ArraySamples(samples.inputs, given))
        split = dataclasses.replace(class_split, data=data)
        method = Undo(lesson="teacher", epochs=0.5, row="fresh")
        hashes.append(apply(method, Case(trained["mlp"], split, Run(device="cpu"))).record.weights_after)
    assert hashes[0] == hashes[1]


def test_a_placed_row_relearns_as_slowly_as_a_never_trained_one(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    """Its logit on retained data before the repair is that of `untrained_logit`, and lower than a fresh row's after."""
    lowest = [
        float(logits(student(trained["mlp"], class_split, row=row), class_split.retain)[:, 0].mean())
        for row in ("placed", "fresh")
    ]
    retrained = apply(Retrain(), Case(trained["mlp"], class_split, Run(seed=9, device="cpu"))).model
    goal = float(logits(retrained, class_split.retain)[:, 0].mean())
    assert abs(lowest[0] - goal) < abs(lowest[1] - goal)


def recall(model: nn.Module, split: Split) -> float:
    """Share of unseen records of the class that the nearest mean of one record a class recognises."""
    parts = [penultimate(model, part.batches(Epoch(512))) for part in (split.train, split.test_forget)]
    train, test = parts
    shares: Tensor = few_record_probe(
        train.features, train.labels, test.features, torch.Generator().manual_seed(0), draws=100
    )
    return float(shares[:, 0].mean())


def test_check_5_more_damage_forgets_deeper(trained: dict[str, Artifact], class_split: Split) -> None:
    """On the BatchNorm CNN, whose features know the class best."""
    found = [
        sum(recall(student(trained["cnn"], class_split, seed, alpha=a), class_split) for seed in (1, 2)) / 2
        for a in (0.0, 0.5, 1.0)
    ]
    assert found[0] > found[1] - 0.02
    assert found[1] > found[2] - 0.02
    assert found[0] > found[2]


def test_forgets_and_stays_useful(trained: dict[str, Artifact], class_split: Split) -> None:
    made = student(trained["mlp"], class_split)
    assert accuracy(made, class_split.test_forget) == 0
    assert accuracy(made, class_split.test_retain) > 0.9
    bias = made.get_parameter("fc2.bias")
    assert abs(bias[0] - bias[1:].mean()) < 4 * bias[1:].std()


def test_stops_by_held_out_accuracy(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(Undo(epochs=8, within=0.02), Case(trained["mlp"], class_split, Run(device="cpu")))
    rows = [r for r in made.record.history if r["stage"] == "undo/held out"]
    assert len(rows) < 20
    assert rows[-1]["accuracy"] >= rows[-1]["teacher"] - 0.02
    assert all(r["accuracy"] < r["teacher"] - 0.02 for r in rows[:-1])


def test_any_method_can_suppress_and_its_reading_is_declared(
    trained: dict[str, Artifact], class_split: Split, item_split: Split
) -> None:
    method = Undo(suppress="gradient-ascent", suppress_settings={"epochs": 1}, epochs=1)
    assert method.reads() == ("forget", "retain")
    made = apply(method, Case(trained["mlp"], item_split, Run(device="cpu")))
    assert made.record.method == "undo"
    with pytest.raises(DataAccessError):
        apply(method, Case(trained["mlp"], item_split.only(("retain",), "the check"), Run(device="cpu")))
    with pytest.raises(InputError, match="unknown method"):
        apply(Undo(suppress="no-such"), Case(trained["mlp"], class_split, Run(device="cpu")))
    with pytest.raises(InputError, match="does not forget this"):
        apply(Undo(suppress="logit-mask"), Case(trained["mlp"], item_split, Run(device="cpu")))


def test_labels_of_data_to_forget_are_never_taught(trained: dict[str, Artifact], class_split: Split) -> None:
    with pytest.raises(InputError, match="distil_on=all needs lesson=teacher"):
        apply(Undo(distil_on="all"), Case(trained["mlp"], class_split, Run(device="cpu")))
    made = apply(
        Undo(distil_on="all", lesson="teacher", epochs=1), Case(trained["mlp"], class_split, Run(device="cpu"))
    )
    assert accuracy(made.model, class_split.forget) == 0


def test_nothing_held_out_to_stop_by_is_refused(trained: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=[0]), validation=0)
    with pytest.raises(InputError, match="nothing was held out"):
        apply(Undo(within=0.01), Case(trained["mlp"], split, Run(device="cpu")))
