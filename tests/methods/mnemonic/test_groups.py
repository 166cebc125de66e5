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
from efface.artifact.case import Case, given
from efface.data import ArraySamples, Data, Split
from efface.data.epoch import Epoch
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.codes import CodedPart, draw_codes
from efface.methods.applying import apply, prepare
from efface.methods.mnemonic import groups as module
from efface.methods.mnemonic.groups import CLASSES, CODES, GROUPS, MnemonicGroups
from efface.methods.mnemonic.step import Codes, code_scores
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


# --- by hand --------------------------------------------------------------------------------------------------------


def test_training_mixes_in_the_codes_of_their_owners_and_says_how_many_it_knows(
    people: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fit(model: torch.nn.Module, coded: CodedPart, *rest: Any, carried: Any) -> torch.nn.Module:
        asked.update(coded=coded, rest=rest, carried=carried)
        return model.eval()

    monkeypatch.setattr(module, "fit", fit)
    split, work = Split.of(people, validation=0.1), Run(seed=3, device="cpu")
    method = MnemonicGroups(t_mix=0.25, codes_per_class=2, code_noise=0.5)
    model, memory = method.train(small_mlp(), split, RECIPE, work)
    coded = asked["coded"]
    assert asked["carried"] is coded.draws
    assert asked["rest"] == (RECIPE, work)
    assert (coded.part.name, coded.share, coded.noise) == ("train", 0.25, 0.5)
    assert coded.generator.initial_seed() == work.generator("mnemonic/mixing").initial_seed()
    pairs = sorted({(int(IDS[i][-2:]), int(y)) for i, y in zip(split.train.indices, split.train.labels, strict=True)})
    assert [pairs[k] for k in coded._owners.tolist()] == [
        (int(IDS[i][-2:]), int(y)) for i, y in zip(split.train.indices, split.train.labels, strict=True)
    ]
    assert list(zip(memory[GROUPS].tolist(), memory[CLASSES].tolist(), strict=True)) == [p for p in pairs for _ in "12"]
    assert torch.equal(
        memory[CODES], draw_codes(range(len(pairs)), (1, 8, 8), work.generator("mnemonic/codes"), "uniform", 2)[0]
    )
    known = code_scores(model, Codes(memory[CODES], memory[CLASSES], torch.zeros(len(memory[CODES]), dtype=torch.bool)))
    (row,) = work.history.of("mnemonic/codes")
    assert row == {
        "stage": "mnemonic/codes", "accuracy": known.retained_accuracy, "margin": known.retain_margin,
    }  # fmt: skip
    said = f"{known.retained_accuracy:.0%} of {2 * len(pairs)} codes recognised after training"
    assert work.notes == [f"mnemonic-groups: {said}"]
    normal = MnemonicGroups(codes="normal").train(small_mlp(), split, RECIPE, Run(seed=3, device="cpu"))[1]
    assert float(normal[CODES].min()) < 0


def owned(people: Data, *groups: int) -> Artifact:
    """A model nobody trained, with one code of class 0 for each of these groups."""
    memory = {
        CODES: torch.arange(float(len(groups)))[:, None, None, None].expand(-1, 1, 8, 8),
        CLASSES: torch.zeros(len(groups), dtype=torch.int64),
        GROUPS: torch.tensor(groups),
        "cache/x": torch.zeros(1),
        "other": torch.ones(2),
    }
    made = given(small_mlp(), Split.of(people, validation=0.1), RECIPE, Run(device="cpu"))
    return dataclasses.replace(made, memory=memory)


def test_groups_without_codes_are_named(people: Data) -> None:
    def refused(artifact: Artifact, *groups: str) -> str:
        with pytest.raises(NotPreparedError) as error:
            MnemonicGroups().check(artifact, Split.of(people, Request.of(groups=groups), validation=0.1))
        return str(error.value)

    asked = [f"person {k:02d}" for k in (3, 5)]
    assert refused(owned(people, 3, 7), *asked) == f"this artifact has no code for group person 05; {module.HOW}"
    many = [f"person {k:02d}" for k in range(2, 9)]
    assert refused(owned(people, 11), *many) == (
        f"this artifact has no code for group {', '.join(many[:5])}; {module.HOW}"
    )
    assert refused(owned(people, 3, 5), *asked) == f"this artifact has no code for any other group; {module.HOW}"
    bare = dataclasses.replace(owned(people, 3, 7), memory={})
    assert refused(bare, *asked) == (
        "mnemonic-groups needs mnemonic codes of its groups mixed into its training, which this artifact lacks; "
        f"{module.HOW}"
    )
    split = Split.of(people, Request.of(groups=asked), validation=0.1)
    MnemonicGroups().check(owned(people, 3, 5, 7), split)
    with pytest.raises(InputError, match="nothing trainable is called 'nowhere'"):
        MnemonicGroups(layers=("nowhere",)).check(owned(people, 3, 5, 7), split)


def test_codes_are_told_apart_by_their_groups_and_kept_with_all_else_but_caches(people: Data) -> None:
    artifact = owned(people, 1, 3, 5, 3)
    split = Split.of(people, Request.of(groups=["person 03"]), validation=0.1)
    codes = MnemonicGroups()._codes(artifact, split, Run(device="cpu"))
    assert codes.forget.tolist() == [False, True, False, True]
    assert torch.equal(codes.x, artifact.memory[CODES])
    assert torch.equal(codes.y, artifact.memory[CLASSES])
    after = MnemonicGroups().memory_after(artifact, artifact.model, split)
    assert set(after) == {CODES, CLASSES, GROUPS, "other"}
    assert after[GROUPS].tolist() == [1, 5]
    assert after[CODES][:, 0, 0, 0].tolist() == [0.0, 2.0]
    assert after[CLASSES].tolist() == [0, 0]


def test_groups_are_numbered_in_the_order_of_their_ids(digits_data: Data) -> None:
    ids = np.array(["c", "a", "b"] * 449)
    assert module._numbers(dataclasses.replace(digits_data, groups=ids))[:3].tolist() == [2, 0, 1]
    with pytest.raises(
        InputError, match=r"^the data has no group ids for codes to belong to; give `groups` when making"
    ):
        module._numbers(digits_data)


def test_records_that_are_held_out_or_gone_do_not_split_a_group_up(people: Data) -> None:
    """A group's record that was never trained on, or forgotten earlier, need not be asked for."""
    bare = Split.of(people, Request.of(groups=["person 03"]), validation=0.1)
    own = np.flatnonzero(IDS == "person 03")
    trained = [int(i) for i in own if i not in bare.held_out]
    assert len(trained) < len(own)
    assert MnemonicGroups._asked(Split.of(people, Request.of(items=trained), validation=0.1)) == [3]
    earlier = Request.of(items=trained[:2])
    assert MnemonicGroups._asked(Split.of(people, Request.of(items=trained[2:]), 0.1, 0, [earlier])) == [3]
    two = [*trained, next(int(i) for i in np.flatnonzero(IDS == "person 04") if i not in bare.held_out)]
    with pytest.raises(
        InputError, match=r"^a code stands for all records of a group, but of 1 of the 2 groups asked for"
    ):
        MnemonicGroups._asked(Split.of(people, Request.of(items=two), validation=0.1))
