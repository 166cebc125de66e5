"""One small real problem for all method tests: that of the contract, trained once, with a request of each kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Data, Part, Split, load
from efface.request import Request
from efface.testing.bench import MLP_SPEC, RECIPE, plainly_trained, small_cnn, small_mlp

__all__ = ["MLP_SPEC", "RECIPE", "accuracy", "logits", "small_cnn", "small_mlp"]


def logits(model: nn.Module, part: Part) -> Tensor:
    with torch.no_grad():
        return model.eval()(part.tensors()[0])


def accuracy(model: nn.Module, part: Part) -> float:
    """Share of the part that the model gets right, in eval mode."""
    return float((logits(model, part).argmax(1) == part.labels).float().mean())


@pytest.fixture(scope="session")
def digits_data() -> Data:
    return load("digits")


@pytest.fixture(scope="session")
def trained(digits_data: Data) -> dict[str, Artifact]:
    """Plainly trained artifacts `mlp` (with a spec) and `cnn` (without one); about 1 s for both."""
    return plainly_trained(digits_data)


@pytest.fixture(scope="session")
def class_split(digits_data: Data) -> Split:
    """Forget class 0."""
    return Split.of(digits_data, Request.of(classes=[0]))


@pytest.fixture(scope="session")
def item_split(digits_data: Data) -> Split:
    """Forget 60 random training items (those of them that were trained on)."""
    items = np.sort(np.random.default_rng(0).choice(len(digits_data.train), 60, replace=False))
    return Split.of(digits_data, Request.of(items=items.tolist()))
