"""One small real problem for all method tests: digits, an MLP, a BatchNorm CNN, a class request and an item request."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Data, Part, Split, load
from efface.methods.applying import prepare
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe

RECIPE = Recipe(lr=0.1, epochs=8, batch_size=64, weight_decay=5e-4)
MLP_SPEC = ModelSpec(build="mlp", arguments={"hidden": [64], "activation": "relu"})


def small_mlp(seed: int = 0) -> nn.Module:
    """64-64-10 with ReLU."""
    return build(MLP_SPEC, input_shape=(1, 8, 8), num_classes=10, seed=seed)


def small_cnn(seed: int = 0) -> nn.Module:
    """Two convolutions with BatchNorm, pooled to 2 x 2, and a linear head."""
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


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
    split = Split.of(digits_data)
    return {
        "mlp": prepare(None, small_mlp(), split, RECIPE, Run(device="cpu"), spec=MLP_SPEC),
        "cnn": prepare(None, small_cnn(), split, RECIPE, Run(device="cpu")),
    }


@pytest.fixture(scope="session")
def class_split(digits_data: Data) -> Split:
    """Forget class 0."""
    return Split.of(digits_data, Request.of(classes=[0]))


@pytest.fixture(scope="session")
def item_split(digits_data: Data) -> Split:
    """Forget 60 random training items (those of them that were trained on)."""
    items = np.sort(np.random.default_rng(0).choice(len(digits_data.train), 60, replace=False))
    return Split.of(digits_data, Request.of(items=items.tolist()))
