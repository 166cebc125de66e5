"""Bad Teacher: the checks of its sheet by number (3, the ZRF metric, belongs to the audit)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Split
from efface.errors import InputError
from efface.mechanisms.distillation import kl
from efface.methods.applying import apply
from efface.methods.bad_teacher import BadTeacher
from efface.models.predictions import accuracy_of, logits_of
from efface.models.reset import reset
from efface.request import Request
from efface.running.run import Run


def run(seed: int = 1) -> Run:
    return Run(seed=seed, device="cpu")


def two_teacher_loss(l: Tensor, bad: Tensor, good: Tensor, student: Tensor, t: float) -> float:  # noqa: E741
    """The official step, sample by sample: elementwise mean of q (log q - log softmax(s / T))."""
    q = l[:, None] * (bad / t).softmax(1) + (1 - l[:, None]) * (good / t).softmax(1)
    return float((q * (q.log() - (student / t).log_softmax(1))).mean())


def test_checks_1_and_2_one_teacher_per_sample_equals_the_two_teacher_formula(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    """One full-batch step with lr 0 on the perceptron: the loss in the history is the formula's."""
    t = 2.0
    method = BadTeacher(lr=0, temperature=t, batch_size=10**6, min_steps=0)
    made = apply(method, Case(trained["mlp"], class_split, run()))
    found = made.record.history[-1]["loss"]
    part = method.lesson(class_split, run())
    bad_teacher = reset(trained["mlp"].model, run().generator("bad-teacher/incompetent teacher"))
    good, bad = logits_of(trained["mlp"].model, part), logits_of(bad_teacher, part)
    n = len(class_split.forget)
    flags = (torch.arange(len(part)) < n).float()
    assert found == pytest.approx(two_teacher_loss(flags, bad, good, good, t), abs=1e-6)
    # l = 0 and S = T_s: nothing to learn; l = 1: the divergence from T_d.
    assert two_teacher_loss(torch.zeros(len(part)), bad, good, good, t) == pytest.approx(0, abs=1e-7)
    assert found == pytest.approx(float(kl(bad[:n], good[:n], t).sum()) / len(part) / 10, rel=1e-4)


def test_reduction_by_batch_is_k_times_that_by_elements(trained: dict[str, Artifact], class_split: Split) -> None:
    losses = []
    for reduction in ("elements", "batch"):
        method = BadTeacher(lr=0, batch_size=10**6, min_steps=0, reduction=reduction)
        losses.append(apply(method, Case(trained["mlp"], class_split, run())).record.history[-1]["loss"])
    assert losses[1] == pytest.approx(10 * losses[0], rel=1e-5)


@pytest.mark.parametrize("stratified", [False, True])
def test_check_5_the_lesson_is_the_forget_data_and_a_share_of_the_rest(class_split: Split, stratified: bool) -> None:
    part = BadTeacher(stratified=stratified).lesson(class_split, run())
    n, rest = len(class_split.forget), len(class_split.retain)
    kept = part.indices[n:]
    assert (part.indices[:n] == class_split.forget.indices).all()
    assert np.isin(kept, class_split.retain.indices).all()
    assert len(np.unique(kept)) == len(kept)
    if stratified:
        counts = np.bincount(class_split.data.train_labels[kept], minlength=10)
        whole = np.bincount(class_split.retain.labels.numpy(), minlength=10)
        assert (counts == [round(0.3 * c) for c in whole]).all()
    else:
        assert len(kept) == round(0.3 * rest)


class Unlabelled(ArraySamples):
    """Samples whose labels raise once they are sealed."""

    sealed = False

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> Tensor:  # type: ignore[override]
        if self.sealed:
            raise AssertionError("a label was read")
        return self._labels

    @labels.setter
    def labels(self, value: Tensor) -> None:
        self._labels = value


def test_check_6_no_label_is_read(trained: dict[str, Artifact], digits_data: Data) -> None:
    samples = Unlabelled(digits_data.train.inputs, digits_data.train.labels)
    split = Split.of(dataclasses.replace(digits_data, train=samples), Request.of(classes=[0]))
    samples.sealed = True
    BadTeacher().forget(trained["mlp"], split.only(["forget", "retain"], "bad-teacher"), run())
    with pytest.raises(AssertionError, match="label"):
        BadTeacher(stratified=True).forget(trained["mlp"], split, run())


@pytest.mark.parametrize("uniform", [False, True])
def test_check_7_forgets_the_class_keeps_the_rest_and_is_as_ignorant_as_its_teacher(
    trained: dict[str, Artifact], class_split: Split, uniform: bool
) -> None:
    method = BadTeacher(lr=1e-2, uniform=uniform, epochs=5)  # the notebook's rate suits a pretrained ResNet
    made = apply(method, Case(trained["cnn"], class_split, run()))
    assert accuracy_of(made.model, class_split.test_forget) < 0.1 + 0.10
    kept = accuracy_of(made.model, class_split.test_retain)
    assert kept > accuracy_of(trained["cnn"].model, class_split.test_retain) - 0.05
    p = logits_of(made.model, class_split.forget).softmax(1)
    row = next((r for r in made.record.history if "entropy" in r), {"entropy": math.log(10)})
    assert float(torch.special.entr(p).sum(1).mean()) == pytest.approx(row["entropy"], rel=0.1)


def test_check_8_without_a_learning_rate_only_statistics_move(trained: dict[str, Artifact], class_split: Split) -> None:
    old = trained["cnn"].model.state_dict()
    for freeze in (True, False):
        made = apply(BadTeacher(lr=0, freeze_batch_norm=freeze), Case(trained["cnn"], class_split, run())).model
        assert all(torch.equal(v, old[k]) for k, v in made.named_parameters())
        assert all(torch.equal(v, old[k]) == freeze for k, v in made.named_buffers())


def test_items_lose_the_original_answers(trained: dict[str, Artifact], item_split: Split) -> None:
    made = apply(BadTeacher(lr=1e-2, epochs=5), Case(trained["cnn"], item_split, run()))
    before, after = (
        logits_of(m, item_split.forget).softmax(1).amax(1).mean() for m in (trained["cnn"].model, made.model)
    )
    assert after < before - 0.1


class Scale(nn.Module):
    """A parameter without reset_parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) * self.by


def test_a_model_without_fresh_weights_is_sent_elsewhere(trained: dict[str, Artifact], class_split: Split) -> None:
    odd = dataclasses.replace(trained["mlp"], model=nn.Sequential(trained["mlp"].model, Scale()))
    with pytest.raises(InputError, match="uniform, or use scrub"):
        apply(BadTeacher(), Case(odd, class_split, run()))
    apply(BadTeacher(uniform=True), Case(odd, class_split, run()))


def test_a_confident_random_teacher_is_noted(trained: dict[str, Artifact], class_split: Split) -> None:
    here = run()
    apply(BadTeacher(temperature=0.01), Case(trained["mlp"], class_split, here))  # sharpened to one class
    assert any("far from ignorant" in note for note in here.notes)
