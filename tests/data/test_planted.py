"""Canaries: displaced copies, half of them mislabelled, planted the same way every time, and never held out."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from efface.data import ArraySamples, Augment, Data, Split, load
from efface.data.canaries import Canaries
from efface.data.mapped import MappedSamples, mapped_data
from efface.data.planted import PlantedSamples, canaries_for, planted
from efface.errors import InputError
from efface.request import Request

SEED, HELD = 3, 0.1


@pytest.fixture(scope="module")
def plain() -> Data:
    data = load("digits")
    n = len(data.train)
    return dataclasses.replace(
        data, groups=np.arange(n) // 7, ids=np.array([f"row-{i}" for i in range(n)]), metadata={"year": np.arange(n)}
    )


def with_canaries(data: Data, count: int = 21) -> Data:
    return planted(data, canaries_for(data, count, SEED, HELD), HELD, SEED)


@pytest.fixture(scope="module")
def data(plain: Data) -> Data:
    return with_canaries(plain)


def test_half_are_mislabelled_copies_and_half_keep_their_label(plain, data):
    made = data.canaries
    own, labels = plain.train_labels[made.sources], data.train_labels[made.positions]
    assert made.mislabelled.sum() == 11
    assert (labels != own).tolist() == made.mislabelled.tolist()
    assert len(set(made.sources.tolist())) == 21
    assert len(data.train) == len(plain.train) + 21
    assert data.own_size == len(plain.train)


def test_the_noise_is_gaussian_of_the_stated_size(plain, data):
    made = data.canaries
    copies, sources = data.train.read([torch.from_numpy(p) for p in (made.positions, made.sources)])
    noise = (copies - sources).double().flatten() / made.about.epsilon
    n = len(noise)  # 1344 normal numbers: four standard errors of mean and variance
    assert abs(float(noise.mean())) < 4 / n**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / n) ** 0.5
    x = plain.train.inputs.double()
    spread = float((x - x.mean(0)).square().mean().sqrt())
    assert made.about.epsilon == pytest.approx(spread / 2, rel=0.02)  # measured on 1,000 of 1,347 records


def test_nothing_else_changes_and_no_canary_is_or_copies_a_held_out_record(plain, data):
    before, after = (Split.of(d, validation=HELD, seed=SEED) for d in (plain, data))
    assert np.array_equal(before.validation.indices, after.validation.indices)
    assert np.array_equal(np.setdiff1d(after.train.indices, before.train.indices), data.canaries.positions)
    assert not set(data.canaries.sources.tolist()) & set(after.validation.indices.tolist())
    order = [torch.tensor([5, 0, 700])]
    assert torch.equal(next(plain.train.read(order)), next(data.train.read(order)))


def test_they_are_planted_the_same_way_again_and_otherwise_by_another_seed(plain, data):
    again, other = with_canaries(plain), planted(plain, canaries_for(plain, 21, 4, HELD), HELD, SEED)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    assert torch.equal(again.train.inputs, data.train.inputs)
    assert data.fingerprint != plain.fingerprint


def test_mixed_batches_are_read_in_their_order_and_augmented():
    images = ArraySamples(torch.randint(0, 255, (40, 1, 6, 6), dtype=torch.uint8), np.arange(40) % 2, [0.5], [0.25])
    data = with_canaries(Data("images", images, images, ("a", "b")), 2)
    order = [torch.tensor([41, 3, 40]), torch.tensor([1, 2]), torch.tensor([40]), torch.tensor([], dtype=torch.int64)]
    found = list(data.train.read(order))
    assert torch.equal(found[0][1], next(images.read([torch.tensor([3])]))[0])
    assert torch.equal(found[0][0], data.train.inputs[1])
    assert [len(x) for x in found] == [3, 2, 1, 0]
    assert torch.equal(data.train[41][0], data.train.inputs[1])
    flipped = Augment(flip=True)
    found = [
        x
        for seed in range(8)
        for x in data.train.read(order[2:3], augment=flipped, generator=torch.Generator().manual_seed(seed))
    ]
    assert {torch.equal(x[0], data.train.inputs[0]) for x in found} == {True, False}


def test_a_copy_has_the_group_and_the_metadata_of_its_record(plain, data):
    at, sources = data.canaries.positions, data.canaries.sources
    assert data.groups[at].tolist() == plain.groups[sources].tolist()
    assert data.metadata["year"][at].tolist() == sources.tolist()
    assert data.ids[at[0]] == "canary-0"
    person = Request(groups=(int(data.groups[at[0]]),)).resolve(data)
    assert {int(at[0]), int(sources[0])} <= set(person.indices.tolist())


def test_counts_say_how_many_are_canaries(data):
    split = Split.of(data, Request(items=(0, 1, 2), canaries=True), 0.0, SEED)
    assert split.counts.canaries == 21
    assert "21 of them canaries" in split.counts.text
    assert len(split.canaries_left) == 0
    free = next(i for i in range(3, 1347) if i not in data.canaries.sources)
    assert len(Split.of(data, Request(items=(free,)), 0.0, SEED).canaries_left) == 21
    later = Split.of(data, Request(items=(free,)), 0.0, SEED, earlier=[split.request])
    assert len(later.canaries_left) == 0


def test_in_shared_memory_they_are_the_same(data):
    shared = mapped_data(data)
    assert isinstance(shared.train, PlantedSamples)
    assert isinstance(shared.train.samples, MappedSamples)
    assert shared.fingerprint == data.fingerprint
    again = pickle.loads(pickle.dumps(shared.train))  # noqa: S301 - made just above
    order = [torch.tensor([1350, 4])]
    assert torch.equal(next(again.read(order)), next(data.train.read(order)))


def test_too_few_too_many_and_twice_are_refused(plain, data):
    for count in (0, 1, 122):
        with pytest.raises(InputError, match="allowed: 2 to 121, a tenth"):
            canaries_for(plain, count, SEED, HELD)
    with pytest.raises(InputError, match="already holds canaries"):
        canaries_for(data, 20, SEED, HELD)


class Drawn(Dataset):
    """Inputs that are drawn whenever they are read, as by a random transform."""

    targets = tuple(range(2)) * 20

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(3), self.targets[index]


def test_data_that_cannot_be_copied_is_refused(plain):
    tokens = ArraySamples(torch.arange(80).reshape(40, 2), np.arange(40) % 2)
    with pytest.raises(InputError, match="token ids"):
        canaries_for(Data("text", tokens, tokens, ("a", "b")), 2, SEED, HELD)
    drawn = Data.of(Drawn(), Drawn())
    with pytest.raises(InputError, match="change from one reading to the next"):
        with_canaries(drawn, 2)
    same = ArraySamples(torch.ones(40, 2), np.arange(40) % 2)
    with pytest.raises(InputError, match="all inputs"):
        canaries_for(Data("same", same, same, ("a", "b")), 2, SEED, HELD)
    named = dataclasses.replace(plain, ids=np.array(["canary-0", *plain.ids[1:]]))
    with pytest.raises(InputError, match="name them otherwise"):
        with_canaries(named)


def test_how_they_were_made_is_plain_data():
    about = Canaries(count=4, seed=1, epsilon=0.25)
    assert Canaries.model_validate_json(about.model_dump_json()) == about
