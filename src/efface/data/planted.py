"""Training data with canaries: displaced copies of its records, half of them with a wrong label."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.data.augment import Augment
from efface.data.canaries import Canaries, Planted
from efface.data.data import Data
from efface.data.samples import Samples
from efface.data.split import held_out_of
from efface.errors import InputError

__all__ = ["PlantedSamples", "canaries_for", "displaced", "planted"]

SPREAD = 0.5
"""The noise's standard deviation over the root mean squared distance of training inputs to their mean, by feature."""

LARGEST_SHARE = 0.1
"""Of the records that training sees: more wrong labels would spoil the model."""

LOOKED_AT = 1000


class PlantedSamples(Samples):
    """A collection followed by canaries; nothing of the former is copied.

    Canaries are stored as the network sees them, so that noise is neither rounded to pixels nor cut off at black.

    Args:
        samples: The data's own.
        inputs: The canaries as float32, shape (count, *input_shape).
        labels: Theirs, int64, shape (count,).
        planted: Where they come from.
    """

    def __init__(self, samples: Samples, inputs: Tensor, labels: Tensor, planted: Planted) -> None:
        self.samples = samples
        self.inputs = inputs
        self.planted = planted
        self.labels = torch.cat([samples.labels, labels])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch axis."""
        return self.samples.input_shape

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the collection's own fingerprint, of how the canaries were made, and of their labels."""
        digest = hashlib.sha256(self.samples.fingerprint.encode())
        digest.update(self.planted.about.model_dump_json().encode())
        digest.update(self.planted.sources.astype("<i8").tobytes())
        digest.update(self.labels[len(self.samples) :].numpy().data)
        return digest.hexdigest()

    def read(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the inputs of each batch of positions; see `Samples.read`. A canary's crop is padded with zeros."""
        own = len(self.samples)
        plain = self.samples.read([b[b < own] for b in batches], device=device, augment=augment, generator=generator)
        for positions, x in zip(batches, plain, strict=True):
            canary = positions >= own
            if not canary.any():
                yield x
                continue
            mine = self.inputs[positions[canary] - own].to(x.device)
            if augment is not None:
                if generator is None:
                    raise ValueError("augmentation needs a generator")
                mine = augment(mine, generator)
            both = torch.empty(len(positions), *self.input_shape, dtype=x.dtype, device=x.device)
            both[canary.to(x.device)] = mine
            both[~canary.to(x.device)] = x
            yield both

    def over(self, samples: Samples) -> PlantedSamples:
        """Return the same canaries behind the same records, held in another way (e.g. in shared memory)."""
        made = copy.copy(self)
        made.samples = samples
        return made


def canaries_for(data: Data, count: int, seed: int, validation: float) -> Canaries:
    """Return how canaries are planted in these data, checked.

    Args:
        data: Without canaries.
        count: How many.
        seed: Of the recipe, with which the held-out part is chosen, too.
        validation: Fraction of the training data held out; no canary is a copy of a held-out record.

    Raises:
        InputError: There are too few or too many, or the inputs cannot be displaced.
    """
    if data.canaries is not None:
        raise InputError("the data already holds canaries; hand over the data as it was loaded")
    if data.input_dtype != torch.float32:
        raise InputError(
            f"the inputs of {data.name} are token ids, to which no noise can be added; train without canaries"
        )
    seen = _seen(data, validation, seed)
    most = int(LARGEST_SHARE * len(seen))
    if not 2 <= count <= most:
        raise InputError(
            f"{count} canaries for {len(seen)} records to train on; allowed: 2 to {most}, a tenth of them, because "
            "half of the canaries have wrong labels. 20 to 40 are enough for an audit"
        )
    rng = np.random.default_rng([seed, 0xCA2])
    (x,) = data.train.read([torch.from_numpy(rng.choice(seen, min(LOOKED_AT, len(seen)), replace=False))])
    spread = float((x.double() - x.double().mean(0)).square().mean().sqrt())
    if spread <= 0:
        raise InputError(f"all inputs of {data.name} are the same; canaries would tell nothing")
    return Canaries(count=count, seed=seed, epsilon=float(f"{SPREAD * spread:.6g}"))


def planted(data: Data, about: Canaries, validation: float, seed: int) -> Data:
    """Return the data with its canaries; each has the group and the metadata of the record that it copies.

    Args:
        data: Without canaries.
        about: How they are made.
        validation: Fraction held out of training.
        seed: Of the held-out choice.

    Raises:
        InputError: Reading the same records twice gives two inputs, as with random transforms, so that no copy could be
            made again; or an id of the data is a canary's.
    """
    rng, labels = np.random.default_rng([about.seed, 0xCA1]), data.train_labels
    seen = _seen(data, validation, seed)
    sources = rng.choice(seen, about.count, replace=False)
    mislabelled = np.arange(about.count) < about.count - about.count // 2
    kinds = np.unique(labels[seen])
    own = labels[sources].copy()
    others = rng.integers(1, len(kinds), about.count)
    wrong = kinds[(np.searchsorted(kinds, own) + others) % len(kinds)]
    x, again = data.train.read([torch.from_numpy(sources)] * 2)
    if not torch.equal(x, again):
        raise InputError(
            f"the training inputs of {data.name} change from one reading to the next (random transforms?), so that no "
            "copy of them can be made again; give a dataset without them, and augment by the recipe instead"
        )
    made = Planted(about, len(data.train), sources, mislabelled)
    samples = PlantedSamples(
        data.train,
        displaced(x, about.epsilon, rng),
        torch.from_numpy(np.where(mislabelled, wrong, own).astype(np.int64)),
        made,
    )
    return dataclasses.replace(data, train=samples, canaries=made, **_columns(data, made))


def displaced(x: Tensor, epsilon: float, rng: np.random.Generator) -> Tensor:
    """Return x + xi, xi ~ N(0, epsilon^2 I), as float32 on the CPU."""
    return x.cpu() + torch.from_numpy((epsilon * rng.standard_normal(tuple(x.shape))).astype(np.float32))


def _seen(data: Data, validation: float, seed: int) -> np.ndarray:
    """Return the positions that training sees."""
    return np.setdiff1d(np.arange(len(data.train)), held_out_of(data, validation, seed))


def _columns(data: Data, made: Planted) -> dict[str, Any]:
    """Return ids, groups and metadata with the canaries'."""
    found: dict[str, Any] = {
        "metadata": {name: np.concatenate([v, np.asarray(v)[made.sources]]) for name, v in data.metadata.items()}
    }
    if data.groups is not None:
        found["groups"] = np.concatenate([data.groups, data.groups[made.sources]])
    if data.ids is not None:
        names = np.array([f"canary-{i}" for i in range(made.about.count)])
        if taken := sorted(set(names.tolist()) & set(data.ids.tolist())):
            raise InputError(f"the data's own records have ids of canaries ({taken[0]}, ...); name them otherwise")
        found["ids"] = np.concatenate([data.ids, names])
    return found
