"""One small real problem for any method: digits, an MLP, a BatchNorm CNN, requests of classes and of items."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Split
from efface.errors import DataAccessError, InputError
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import methods
from efface.methods.method import Method
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe

__all__ = [
    "ITEMS",
    "MLP_SPEC",
    "RECIPE",
    "REQUESTS",
    "Bench",
    "Outcome",
    "guarded",
    "plainly_trained",
    "request_for",
    "small_cnn",
    "small_mlp",
]

RECIPE = Recipe(lr=0.1, epochs=8, batch_size=64, weight_decay=5e-4)
MLP_SPEC = ModelSpec(build="mlp", arguments={"hidden": [64], "activation": "relu"})
SIZE = 1347
"""Training records of digits."""

ITEMS: list[int] = np.sort(np.random.default_rng(0).choice(SIZE, 60, replace=False)).tolist()
GROUPS = np.arange(SIZE) // 45
GROUPS[ITEMS], GROUPS[7] = 1000, 2000
"""For methods that need them: the items of `REQUESTS` are whole groups."""

REQUESTS = {
    "one class": Request(classes=(0,)),
    "two classes": Request(classes=(3, 8)),
    "one item": Request(items=(7,)),
    "items": Request(items=tuple(ITEMS)),
}


def request_for(method: Method) -> str:
    """Return the usual request for a method: one class where it forgets classes, or 60 items."""
    return "one class" if "classes" in method.needs.targets else "items"


def small_mlp(seed: int = 0) -> nn.Module:
    """Return 64-64-10 with ReLU."""
    return build(MLP_SPEC, input_shape=(1, 8, 8), num_classes=10, seed=seed)


def small_cnn(seed: int = 0) -> nn.Module:
    """Return two convolutions with BatchNorm, pooled to 2 x 2, and a linear head."""
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


def plainly_trained(data: Data) -> dict[str, Artifact]:
    """Train `mlp` (with a spec) and `cnn` (without one), as a user's plain training would; about 1 s for both."""
    split = Split.of(data)
    return {
        "mlp": prepare(None, small_mlp(), split, RECIPE, Run(device="cpu"), spec=MLP_SPEC),
        "cnn": prepare(None, small_cnn(), split, RECIPE, Run(device="cpu")),
    }


class GuardedSamples(ArraySamples):
    """Digits that raise when an input is read at a forbidden position, whichever way the reader got there.

    Args:
        source: The samples.
        forbidden: Positions that nobody may read.
    """

    def __init__(self, source: ArraySamples, forbidden: np.ndarray) -> None:
        super().__init__(source.inputs, source.labels, source.mean, source.std)
        self.forbidden = torch.from_numpy(forbidden)

    def read(self, batches: Sequence[Tensor], **options: Any) -> Iterator[Tensor]:
        """Yield the inputs of each batch; see `Samples.read`.

        Raises:
            DataAccessError: One of them is forbidden.
        """
        wanted = torch.cat([b.flatten() for b in batches])
        touched = wanted[torch.isin(wanted, self.forbidden)]
        if len(touched):
            raise DataAccessError(f"{len(touched)} undeclared samples read, the first at {int(touched[0])}")
        return super().read(batches, **options)


def guarded(data: Data, request: Request, method: Method) -> Split:
    """Return the split of a data set whose undeclared samples, and all test samples, raise when read."""
    split = Split.of(data, request)
    parts = {"forget": split.forget, "retain": split.retain, "validation": split.validation}
    declared = np.concatenate([np.empty(0, np.int64), *(parts[k].indices for k in method.reads())])
    forbidden = np.setdiff1d(np.arange(len(data.train)), declared)
    assert isinstance(data.train, ArraySamples)
    assert isinstance(data.test, ArraySamples)
    wary = dataclasses.replace(
        data,
        train=GuardedSamples(data.train, forbidden),
        test=GuardedSamples(data.test, np.arange(len(data.test))),
    )
    return Split.of(wary, request)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One method applied once: what went in, what came out.

    Attributes:
        network: `mlp` or `cnn`.
        method: What was applied.
        given: The artifact that it was given.
        state_before: That model's state before.
        memory_before: That artifact's memory before.
        made: What it made.
        split: The data under the request.
    """

    network: str
    method: Method
    given: Artifact
    state_before: dict[str, Tensor]
    memory_before: dict[str, Tensor]
    made: Artifact
    split: Split


class Bench:
    """Trains and forgets once per case and remembers it, so that each promise is its own test at little cost.

    Args:
        data: Digits.
        plain: The plainly trained networks by name.
    """

    def __init__(self, data: Data, plain: dict[str, Artifact]) -> None:
        self.data, self.plain = dataclasses.replace(data, groups=GROUPS), plain
        self._trained: dict[tuple[str, str], Artifact] = {}
        self._outcomes: dict[tuple[str, str, str], Outcome] = {}

    def artifact(self, method: Method, network: str) -> Artifact:
        """Return a copy of the plainly trained network, or of the one that the method prepared.

        A method that changes what it is given is found out, and spoils nothing for the others.
        """
        if not method.needs.prepared:
            return copy.deepcopy(self.plain[network])
        key = (repr(method), network)
        if key not in self._trained:
            model = small_mlp() if network == "mlp" else small_cnn()
            spec = MLP_SPEC if network == "mlp" else None
            self._trained[key] = prepare(method, model, Split.of(self.data), RECIPE, Run(device="cpu"), spec=spec)
        return copy.deepcopy(self._trained[key])

    def usual(self, method: Method) -> Outcome:
        """Return the result for one class (or items) on the MLP, or on the CNN where the method refuses an MLP."""
        request = request_for(method)
        try:
            method.check(self.artifact(method, "mlp"), Split.of(self.data, REQUESTS[request]))
        except InputError:
            return self.outcome(method, "cnn", request)
        return self.outcome(method, "mlp", request)

    def outcome(self, method: Method, network: str, request: str) -> Outcome:
        """Return the result of a case; skip if the method's own check refuses the network, and explains that."""
        key = (repr(method), network, request)
        if key not in self._outcomes:
            given = self.artifact(method, network)
            split = guarded(self.data, REQUESTS[request], method)
            try:
                method.check(given, split)
            except InputError as error:
                if not any(other in str(error) for other in methods() if other != method.name):
                    pytest.fail(f"{method.name} refuses the {network} without naming a method that would work: {error}")
                pytest.skip(f"{method.name} refuses the {network}: {error}")
            state = {k: v.clone() for k, v in given.model.state_dict().items()}
            memory = {k: v.clone() for k, v in given.memory.items()}
            made = apply(method, Case(given, split, Run(seed=1, device="cpu")))
            self._outcomes[key] = Outcome(network, method, given, state, memory, made, split)
        return self._outcomes[key]
