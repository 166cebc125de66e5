"""Samples: normalisation, labels, fingerprints, bad input, and torch Datasets behind the same face."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from efface.data import ArraySamples, Augment, Data, DatasetSamples
from efface.errors import InputError

PIXELS = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = torch.arange(12) % 3


def first(samples: ArraySamples | DatasetSamples, *positions: int) -> Tensor:
    return next(iter(samples.read([torch.tensor(positions)])))


def test_pixels_are_scaled_and_normalised_per_channel() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.4, 0.3)
    x = first(ArraySamples(PIXELS, LABELS, mean, std), 3, 1)
    expected = (PIXELS[[3, 1]].double() / 255 - torch.tensor(mean).double()[:, None, None]) / torch.tensor(
        std
    ).double()[:, None, None]
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(first(ArraySamples(PIXELS, LABELS), 0).double()[0], PIXELS[0].double() / 255)


TURNED = {
    "every other": lambda v: v.repeat(2, 0)[::2],
    "turned round": lambda v: v[::-1].copy()[::-1],
    "columns first": lambda v: v.T.copy().T,
}


@pytest.mark.parametrize("turned", TURNED.values(), ids=TURNED)
def test_how_arrays_lie_in_memory_makes_no_difference(turned: Any) -> None:
    x, y = np.random.default_rng(0).random((6, 3)), np.array([0, 1, 2, 2, 1, 0])
    plain = ArraySamples(x, y)
    for inputs, labels in ((turned(x), turned(y)), (x, turned(y[:, None])), (turned(x), torch.arange(12)[::2] * 0)):
        found = ArraySamples(inputs, labels)
        assert torch.equal(found.inputs, plain.inputs)
        assert (found.fingerprint == plain.fingerprint) == torch.equal(found.labels, plain.labels)
        assert len(Data("turned", found, found, ("a", "b", "c")).fingerprint) == 64
    assert ArraySamples(turned(x), turned(y)).fingerprint == plain.fingerprint


def test_floats_pass_as_they_are_and_the_source_is_not_changed() -> None:
    x = torch.randn(5, 7)
    before = x.clone()
    samples = ArraySamples(x, [0, 1, 0, 1, 0])
    assert torch.equal(first(samples, 4, 0), x[[4, 0]])
    shifted = ArraySamples(x, [0, 1, 0, 1, 0], mean=(1.0,), std=(2.0,))
    torch.testing.assert_close(first(shifted, 2), (x[2:3] - 1) / 2)
    first(shifted, 2).zero_()
    assert torch.equal(x, before)


def test_normalisation_follows_augmentation_so_padding_is_black() -> None:
    samples = ArraySamples(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), [0], mean=(0.5,), std=(0.5,))
    g = torch.Generator().manual_seed(0)
    x = next(iter(samples.read([torch.zeros(50, dtype=torch.int64)], augment=Augment(crop=2), generator=g)))
    assert set(x.unique().tolist()) == {-1.0, 1.0}  # black is (0 - 0.5) / 0.5


@pytest.mark.parametrize(
    ("inputs", "labels", "said"),
    [
        (np.array([[1.0], [np.nan], [np.inf]]), [0, 1, 0], "2 samples hold NaN or infinity, the first at position 1"),
        (np.ones((2, 1)), [0], r"labels have shape \(1,\); needed: \(2,\)"),
        (np.ones((2, 1)), [0, -1], "reach down to -1"),
        (np.ones((2, 1)), [0.5, 1.0], "regression"),
        (np.ones((2, 1)), [True, False], "whole class numbers"),
        (np.ones(2), [0, 1], r"shape \(2,\): single numbers without an axis"),
        (np.array([["a"], ["b"]]), [0, 1], "cannot be made one tensor of numbers"),
        (np.ones((2, 1), dtype=bool), [0, 1], "integer token ids"),
    ],
)
def test_bad_arrays_are_refused(inputs: np.ndarray, labels: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ArraySamples(inputs, labels)


def test_mean_must_fit_the_channels() -> None:
    with pytest.raises(InputError, match="allowed: 1 or 3"):
        ArraySamples(PIXELS, LABELS, mean=(0.1, 0.2))


def test_fingerprint_covers_inputs_labels_and_normalisation() -> None:
    base = ArraySamples(PIXELS, LABELS).fingerprint
    assert ArraySamples(PIXELS.clone(), LABELS.clone()).fingerprint == base
    changed = PIXELS.clone()
    changed[5, 0, 0, 0] ^= 1
    others = [
        ArraySamples(changed, LABELS),
        ArraySamples(PIXELS, (LABELS + 1) % 3),
        ArraySamples(PIXELS, LABELS, mean=(0.5,)),
        ArraySamples(PIXELS.flip(0), LABELS.flip(0)),
        ArraySamples(PIXELS.reshape(12, 3, 2, 8), LABELS),
    ]
    assert len({base, *(o.fingerprint for o in others)}) == 6


def test_a_dataset_gives_the_same_batches_as_its_arrays() -> None:
    x = torch.randn(12, 3, 4, 4)
    lazy = DatasetSamples(TensorDataset(x, LABELS))
    eager = ArraySamples(x, LABELS)
    order = [torch.tensor([4, 1]), torch.tensor([], dtype=torch.int64), torch.tensor([11])]
    for a, b in zip(lazy.read(order), eager.read(order), strict=True):
        assert torch.equal(a, b)
        assert a.shape == b.shape
    assert torch.equal(lazy.labels, eager.labels)
    assert lazy.input_shape == (3, 4, 4)
    pair = (
        s.read(order[:1], augment=Augment(crop=1, flip=True), generator=torch.Generator().manual_seed(1))
        for s in (lazy, eager)
    )
    assert torch.equal(*(next(iter(batches)) for batches in pair))


def test_worker_processes_give_the_same_and_leave_the_global_generator_alone() -> None:
    x = torch.randn(12, 2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    lazy = DatasetSamples(TensorDataset(x, LABELS), workers=1)
    read = torch.cat(list(lazy.read(list(torch.arange(12).split(5)))))
    assert torch.equal(read, x)
    assert torch.equal(before, torch.get_rng_state())


class Listed(Dataset[Any]):
    """A dataset with labels under another name, that counts how often it is asked for a sample."""

    def __init__(self, **attributes: Any) -> None:
        self.asked = 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked += 1
        return torch.full((2,), float(index)), index % 2


@pytest.mark.parametrize("attributes", [{"targets": [0, 1, 0, 1]}, {"labels": np.array([0, 1, 0, 1])}, {}])
def test_labels_come_from_the_attribute_if_there_is_one(attributes: dict[str, Any]) -> None:
    dataset = Listed(**attributes)
    assert DatasetSamples(dataset).labels.tolist() == [0, 1, 0, 1]
    assert dataset.asked == (1 if attributes else 5)


class Odd(Dataset[Any]):
    """Yields whatever it was given."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (iter([]), "no length"),
        (Odd([]), "is empty"),
        (Odd([torch.zeros(2)]), r"needed: pairs \(input tensor, label\)"),
        (Odd([("no tensor", 1)]), "ToTensor"),
        (Odd([(torch.zeros(2), -1)]), "reach down to -1"),
    ],
)
def test_bad_datasets_are_refused(dataset: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        DatasetSamples(dataset)


def test_nan_in_a_dataset_is_found_when_it_is_read_and_named() -> None:
    samples = DatasetSamples(Odd([(torch.zeros(2), 0), (torch.tensor([0.0, float("nan")]), 1)]), name="mine (train)")
    assert torch.equal(first(samples, 0), torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"mine \(train\): sample 1 holds NaN"):
        first(samples, 0, 1)


@pytest.mark.parametrize("kind", [ArraySamples, lambda x, y: DatasetSamples(TensorDataset(x, y))])
def test_samples_are_a_map_style_dataset(kind: Any) -> None:
    x = torch.randn(12, 3, 4, 4)
    samples = kind(x, LABELS)
    image, label = samples[4]
    assert torch.equal(image, x[4])
    assert label == 1
    assert type(label) is int
    assert torch.equal(samples[-1][0], x[11])
    with pytest.raises(IndexError):
        samples[12]
    batches = list(DataLoader(samples, batch_size=5))
    assert torch.equal(torch.cat([b for b, _ in batches]), x)
    assert torch.equal(torch.cat([y for _, y in batches]), LABELS)


def test_a_sample_is_what_a_pass_yields() -> None:
    samples = ArraySamples(PIXELS, LABELS, (0.1, 0.2, 0.3), (0.5, 0.4, 0.3))
    assert torch.equal(samples[7][0], first(samples, 7)[0])
    assert [y for _, y in samples] == LABELS.tolist()
