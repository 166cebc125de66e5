"""Data from any two data sets, and its fingerprint."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from efface.data import ArraySamples, Data
from efface.errors import InputError


def test_any_two_datasets_make_data() -> None:
    x, y = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    data = Data.of(TensorDataset(x, y), TensorDataset(x[:3], y[:3]), groups=list("aabbcc"), metadata={"k": range(6)})
    assert data.classes == ("0", "1", "2")
    assert data.source == "custom"
    named = Data.of(TensorDataset(x, y), TensorDataset(x[:3], y[:3]), classes=["a", "b", "c"])
    assert named.classes == ("a", "b", "c")
    assert named.fingerprint != data.fingerprint
    with pytest.raises(InputError, match="labels reach 2, but there are 2 class names"):
        Data.of(TensorDataset(x, y), TensorDataset(x[:3], y[:3]), classes=["a", "b"])


def test_fingerprint_covers_train_test_and_names() -> None:
    x = torch.randn(4, 2)
    train, test = ArraySamples(x, [0, 1, 0, 1]), ArraySamples(x + 1, [0, 1, 0, 1])
    prints = {
        Data("a", train, test, ("x", "y")).fingerprint,
        Data("a", test, train, ("x", "y")).fingerprint,
        Data("a", train, test, ("x", "z")).fingerprint,
    }
    assert len(prints) == 3
    assert Data("b", train, test, ("x", "y"), options={"k": 1}).fingerprint in prints
