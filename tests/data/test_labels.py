"""Labels: what counts as class numbers, and what every other kind of target is told."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from efface.data import Data
from efface.data.labels import class_names, class_numbers, sorted_by_class
from efface.errors import InputError
from efface.request import Request

RNG = np.random.default_rng(0)


class Listed(Dataset[Any]):
    """Yields what it was given, and knows no labels beforehand."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


X = torch.randn(6, 3)


def labelled(labels: Any) -> Dataset[Any]:
    return Listed([(X[i], labels[i]) for i in range(6)])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 0, 1, 2],
        np.array([0, 1, 2, 0, 1, 2], dtype=np.uint64),
        np.array([0, 1, 2, 0, 1, 2], dtype=object),
        torch.tensor([0, 1, 2, 0, 1, 2], dtype=torch.uint8),
        torch.tensor([0.0, 1, 2, 0, 1, 2], requires_grad=True),
        torch.tensor([0.0, 1, 2, 0, 1, 2]).bfloat16(),
        torch.tensor([[0], [1], [2], [0], [1], [2]]),
        [torch.tensor(v) for v in (0, 1, 2, 0, 1, 2)],
        [torch.tensor([v]) for v in (0, 1, 2, 0, 1, 2)],
    ],
)
def test_whole_numbers_of_any_type_are_class_numbers(labels: Any) -> None:
    found = class_numbers(labels, 6)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 1, 2, 0, 1, 2]


WRONG: dict[str, tuple[Any, str]] = {
    "regression": (
        torch.tensor([4.81, 3.2, 1.0, 2.0, 0.5, 0.1]),
        r"4\.81 are not whole numbers: .* regression.*digitize",
    ),
    "missing": ([0.0, 1.0, float("nan"), 0.0, 1.0, 0.0], "1 label is NaN or infinite, the first at position 2"),
    "one-hot": (torch.eye(3)[[0, 1, 2, 0, 1, 2]], r"one-hot, 3 numbers.*argmax\(1\)"),
    "multi-label": (torch.tensor([[1, 1, 0]] * 6), "multi-label: 3 numbers of 0 or 1"),
    "soft": (torch.full((6, 4), 0.25), r"soft, 4 probabilities.*argmax\(1\)"),
    "several amounts": (torch.randn(6, 4), "labels are 4 numbers for each sample"),
    "segmentation": (torch.zeros(6, 8, 8, dtype=torch.int64), r"masks of shape \(8, 8\), as for segmentation"),
    "names": (np.array(["cat", "dog", "cat", "dog", "cat", "dog"]), r"names such as 'cat'.*return_inverse"),
    "name objects": (np.array(["cat", "dog"] * 3, dtype=object), "names such as 'cat', 'dog'"),
    "mixed objects": (np.array([1, "dog"] * 3, dtype=object), "of kind int, str"),
    "boxes": ([{"boxes": 1}] * 6, "of kind dict"),
    "ragged": ([[0], [1, 2], [0], [0], [0], [0]], "different shapes from sample to sample"),
    "truth values": ([True, False] * 3, "truth values"),
    "negative": ([0, 1, -1, 0, 0, 0], "reach down to -1"),
    "too large": (np.array([0, 1, 2**63, 0, 0, 0], dtype=np.uint64), f"reach up to {2**63}"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_other_kinds_of_targets_are_refused_by_name(kind: str) -> None:
    labels, said = WRONG[kind]
    with pytest.raises(InputError, match=said):
        class_numbers(labels, 6)


@pytest.mark.parametrize("kind", ["regression", "one-hot", "multi-label", "soft", "segmentation", "names", "boxes"])
def test_a_dataset_of_the_wrong_kind_is_refused_by_name(kind: str) -> None:
    labels, said = WRONG[kind]
    with pytest.raises(InputError, match=r"custom \(train\): .*" + said):
        Data.of(labelled(labels), labelled(labels))


AGES = RNG.integers(18, 91, 400)


def test_amounts_taken_for_classes_are_refused_with_what_was_seen() -> None:
    ages = torch.from_numpy(AGES)
    x = torch.randn(400, 3)
    values = len(np.unique(AGES))
    with pytest.raises(InputError, match=rf"labels take {values} values from 18 to .*no sample's.*ages.*digitize"):
        Data.of(TensorDataset(x, ages), TensorDataset(x, ages))
    named = Data.of(TensorDataset(x, ages), TensorDataset(x, ages), classes=[str(c) for c in range(91)])
    assert len(named.classes) == 91


def test_many_classes_of_few_samples_are_doubted_and_of_many_samples_are_not() -> None:
    with pytest.warns(UserWarning, match="labels take 30 values from 0 to 29, with 2 samples each"):
        class_names(None, torch.arange(30), torch.arange(30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(class_names(None, torch.arange(100).repeat(5), torch.arange(100))) == 100
        assert class_names(None, torch.tensor([0, 9]), torch.tensor([4])) == tuple("0123456789")
        assert class_names(["a", "b"], torch.tensor([0]), torch.tensor([1])) == ("a", "b")


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (
            {"image": torch.zeros(3), "label": 1, "id": "x"},
            r"dictionaries with the keys 'image', 'label', 'id'.*select=lambda sample: \(sample\['image'\], "
            r"sample\['label'\]\)",
        ),
        ((torch.zeros(3), 1, "p17"), r"tuples of 3 \(Tensor, int, str\).*sample\[0\], sample\[1\]"),
        ((np.zeros(3), 1), r"tuples of 2 \(ndarray, int\).*ToTensor"),
        (torch.zeros(3), "yields Tensor; needed: pairs"),
        ((torch.tensor(1.0), 1), "single numbers"),
    ],
)
def test_samples_that_are_no_pairs_are_refused_with_the_selector_that_helps(sample: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Data.of(Listed([sample] * 4), Listed([sample] * 4))


def test_a_selector_takes_the_pair_out_of_more() -> None:
    triples = Listed([(X[i], f"photo {i}", {"label": i % 2}) for i in range(6)])
    data = Data.of(triples, triples, select=lambda sample: (sample[0], sample[2]["label"]))
    assert data.train.labels.tolist() == [0, 1] * 3
    assert data.train[3] is triples[3]  # the user's own sample
    assert torch.equal(next(iter(data.train.read([torch.tensor([3])])))[0], X[3])
    with pytest.raises(IndexError):
        data.train[6]
    with pytest.raises(InputError, match=r"selector fails on sample 0, which is tuples of 3.*KeyError"):
        Data.of(triples, triples, select=lambda sample: (sample[0], sample[2]["class"]))


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (np.array([1, "a"] * 3, dtype=object), "groups are of type int, str; needed: all int or all str"),
        ([7, "7"] * 3, "groups are of type int, str"),  # NumPy would make them one person
        ([1, True] * 3, "groups are of type bool, int"),
        ([1, 2**64] * 3, "groups hold 18446744073709551616, which takes more than 64 bits; give texts"),
        (np.array([1, 2**63] * 3, dtype=np.uint64), "groups hold 9223372036854775808"),
        (["a", "b", None, "a", "b", "c"], "1 sample has no id .* the first at position 2"),
        ([1.0, 2.0, float("nan"), 1, 2, 3], "1 sample has no id"),
        ([1.5, 2.0, 2.0, 1, 2, 3], "groups are of type float"),
    ],
)
def test_groups_of_mixed_types_are_refused(groups: Any, said: str) -> None:
    train = labelled([0, 1] * 3)
    with pytest.raises(InputError, match=said):
        Data.of(train, train, groups=groups)


def test_groups_given_as_objects_of_one_type_are_taken() -> None:
    train = labelled([0, 1] * 3)
    data = Data.of(train, train, groups=np.array(["a", "b"] * 3, dtype=object), test_groups=[np.int64(1), 2] * 3)
    assert data.groups is not None
    assert data.groups.dtype.kind == "U"
    assert data.test_groups is not None
    assert data.test_groups.tolist() == [1, 2] * 3


def test_token_ids_stay_integers_and_gradients_stay_out() -> None:
    ids = torch.arange(12).reshape(6, 2)
    data = Data.of(TensorDataset(ids, torch.arange(6) % 2), TensorDataset(ids, torch.arange(6) % 2))
    assert data.input_dtype == torch.int64
    assert data.train[5][0].tolist() == [10, 11]
    assert data.train[5][0].dtype == torch.int64
    floats = Data.of(*[TensorDataset(X.clone().requires_grad_(), torch.arange(6) % 2)] * 2)
    assert floats.input_dtype == torch.float32
    assert not floats.train[0][0].requires_grad


def test_ids_name_one_sample_each() -> None:
    train = labelled([0, 1] * 3)
    data = Data.of(train, train, ids=[f"row {i}" for i in range(6)])
    assert Request.of(ids=["row 4", "row 1"]).resolve(data).indices.tolist() == [1, 4]
    assert Data.of(train, train, ids=range(6)).ids.tolist() == list("012345")
    with pytest.raises(InputError, match=r"2 ids stand more than once, e\.g\. a; .*give groups"):
        Data.of(train, train, ids=["a", "a", "b", "b", "c", "d"])
    with pytest.raises(InputError, match="ids has 5 entries; needed: 6"):
        Data.of(train, train, ids=range(5))
    with pytest.raises(InputError, match="no ids of its samples"):
        Request.of(ids=["row 4"]).resolve(Data.of(train, train))


@pytest.mark.parametrize("classes", [1, 3, 256, 257, 65_536, 65_537, 10**6])
def test_positions_are_sorted_by_class_and_stay_in_order_within(classes: int) -> None:
    labels = np.random.default_rng(classes).integers(0, classes, 3000)
    labels[7] = classes - 1
    assert sorted_by_class(labels).tolist() == np.argsort(labels, kind="stable").tolist()
    assert sorted_by_class(labels[:0]).tolist() == []
