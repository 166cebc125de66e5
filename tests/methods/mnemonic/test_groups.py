"""Codes owned by groups: which codes, for whom, and what a step makes of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.mechanisms.codes import CodedPart
from efface.methods.applying import apply, prepare
from efface.methods.mnemonic.groups import CLASSES, CODES, GROUPS, MnemonicGroups
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import RECIPE, small_mlp

IDS = np.array([f"person {i % 12:02d}" for i in range(1347)])


@pytest.fixture(scope="module")
def people(digits_data: Data) -> Data:
    return dataclasses.replace(digits_data, groups=IDS)


@pytest.fixture(scope="module")
def coded(people: Data) -> Artifact:
    return prepare(MnemonicGroups(t_mix=0.6), small_mlp(), Split.of(people), RECIPE.but(epochs=12), Run(device="cpu"))


def forget(artifact: Artifact, data: Data, request: Request, **settings: Any) -> Artifact:
    split = Split.of(data, request, earlier=artifact.record.earlier_requests)
    return apply(MnemonicGroups(**settings), Case(artifact, split, Run(seed=1, device="cpu")))


def test_every_group_owns_a_code_for_each_class_of_its_records(coded: Artifact, people: Data) -> None:
    trained = Split.of(people).train
    expected = {(int(IDS[i][-2:]), int(y)) for i, y in zip(trained.indices, trained.labels, strict=True)}
    found = list(zip(coded.memory[GROUPS].tolist(), coded.memory[CLASSES].tolist(), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected) == len(coded.memory[CODES])
    right = coded.model(coded.memory[CODES]).argmax(1) == coded.memory[CLASSES]
    assert float(right.float().mean()) > 0.9


def test_codes_stand_in_for_their_owners_only(people: Data) -> None:
    part = Split.of(people).train.take(range(60))
    owners = torch.arange(60) % 4
    codes = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8)
    mixing = CodedPart(part, codes, torch.arange(4), 1.0, torch.Generator().manual_seed(0), owners=owners)
    (x, y), *rest = mixing.batches(Epoch(60))
    assert rest == []
    assert torch.equal(x[:, 0, 0, 0], owners.float())
    assert torch.equal(y, part.labels)
    with pytest.raises(InputError, match=r"owner \[4\]"):
        CodedPart(part, codes, torch.arange(4), 1.0, torch.Generator(), owners=torch.arange(60) % 5)


def test_the_step_is_that_of_the_groups_codes(coded: Artifact, people: Data) -> None:
    """Against one backward pass per code; both the group's and the others' codes share classes."""
    made = forget(coded, people, Request.of(groups=["person 03"]))
    model = copy.deepcopy(coded.model)
    sums = {kind: {n: torch.zeros_like(p) for n, p in model.named_parameters()} for kind in (True, False)}
    own = coded.memory[GROUPS] == 3
    for x, y, mine in zip(coded.memory[CODES], coded.memory[CLASSES], own.tolist(), strict=True):
        model.zero_grad()
        F.cross_entropy(model(x[None]), y[None]).backward()
        for n, p in model.named_parameters():
            sums[mine][n] += p.grad**2
    (row,) = [r for r in made.record.history if r["stage"] == "mnemonic"]
    for n, p in made.model.named_parameters():
        eta = ((sums[True][n] + 1e-16) / int(own.sum())) / ((sums[False][n] + 1e-16) / int((~own).sum()))
        step = row["sign"] * min(1e-3, 10 / float(eta.max())) * eta
        torch.testing.assert_close(p, coded.model.get_parameter(n) + step, rtol=1e-3, atol=1e-6)


def test_forgotten_codes_are_gone_and_the_next_request_does_without(coded: Artifact, people: Data) -> None:
    once = forget(coded, people, Request.of(groups=["person 03"]), lambda_1=1e-5)
    assert 3 not in once.memory[GROUPS].tolist()
    assert len(once.memory[CODES]) == int((coded.memory[GROUPS] != 3).sum())
    twice = forget(once, people, Request.of(groups=["person 05", "person 07"]), lambda_1=1e-5)
    assert not {3, 5, 7} & set(twice.memory[GROUPS].tolist())


class Closed(ArraySamples):
    """Samples that must not be read."""

    def read(self, batches: Sequence[Tensor], *_: Any, **__: Any) -> Iterator[Tensor]:
        raise AssertionError("data was read")


def test_forgetting_reads_no_data(coded: Artifact, people: Data) -> None:
    shut = [Closed(s.inputs, s.labels, s.mean, s.std) for s in (people.train, people.test)]
    closed = dataclasses.replace(people, train=shut[0], test=shut[1])
    made = forget(coded, closed, Request.of(groups=["person 03"]))
    assert made.record.weights_after != coded.record.weights_after


def test_part_of_a_group_is_refused(coded: Artifact, people: Data) -> None:
    trained = Split.of(people).train.indices
    own = trained[IDS[trained] == "person 04"]
    with pytest.raises(InputError, match=r"of 1 of the 1 groups.*whole groups"):
        forget(coded, people, Request.of(items=own[:3].tolist()))
    whole = forget(coded, people, Request.of(items=own.tolist()))
    named = forget(coded, people, Request.of(groups=["person 04"]))
    assert whole.record.weights_after == named.record.weights_after


def test_data_without_groups_is_refused(digits_data: Data) -> None:
    with pytest.raises(InputError, match="no group ids"):
        prepare(MnemonicGroups(), small_mlp(), Split.of(digits_data), RECIPE, Run(device="cpu"))
