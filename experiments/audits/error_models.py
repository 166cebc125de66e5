"""Models of one request whose truth is known: retrained ones, trained side by side, and some that kept something."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.case import split_under
from efface.data import ArraySamples, Data, Split
from efface.methods.retrain import Retrain
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe
from efface.training.side_by_side import fit_together

__all__ = ["Asked", "Models", "asked_by", "side_by_side"]

ASKED, MEMORISED = 91, 11
"""Records of an item request, and how many of them have wrong labels, so that a model has to memorise them."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        seed: Of the original that it is addressed to.
        target: The class, or None for items.
    """

    seed: int
    target: int | None

    @property
    def kind(self) -> str:
        """What is asked for."""
        return "items" if self.target is None else "class"

    @property
    def key(self) -> str:
        """The request in a table: the original's seed, and the class or `items`."""
        return f"{self.seed}/{'items' if self.target is None else self.target}"


def asked_by(plan: dict[str, Any]) -> Iterator[Asked]:
    """Yield the plan's requests: classes of each original, and items, each of an original of its own."""
    classes = [Asked(seed, c) for seed in plan["originals"] for c in plan["classes"]]
    items = [Asked(seed, None) for seed in plan["item_originals"]]
    # Items in between, so that a run that was stopped has both.
    every = max(1, len(classes) // max(1, len(items)))
    for i, one in enumerate(classes):
        yield one
        if i % every == every - 1 and items:
            yield items.pop(0)
    yield from items


def side_by_side(models: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Return the models if one batched network of them is faster than one after the other, else none.

    Convolutions are slower there (LeNet-5), with BatchNorm three times.
    """
    slower = any(isinstance(m, nn.Conv2d) for model in models[:1] for m in model.modules())
    return () if slower else models


class Models:
    """Trains the models of one request, each from a seed that its role and number give.

    Args:
        plan: Says the network and the recipe.
        data: The plan's.
        asked: The request; of items, an original is trained on data of its own, in which some labels are wrong.
        originals: Originals of classes by seed, kept from one request to the next.
    """

    def __init__(self, plan: dict[str, Any], data: Data, asked: Asked, originals: dict[int, Artifact]) -> None:
        self.asked = asked
        self.recipe = Recipe(**plan["recipe"], seed=asked.seed)
        self.spec = ModelSpec(**plan["model"])
        self.memorised: list[int] = []
        if asked.target is None:
            data, request = self._mislabelled(data)
            # Records are held out by label: with some labels wrong, others would be.
            self.original = self._trained(data, validation=0.0)
        else:
            request = Request(classes=(asked.target,))
            if asked.seed not in originals:
                originals[asked.seed] = self._trained(data)
            self.original = originals[asked.seed]
        self.data, self.request = data, request
        self.split: Split = split_under(self.original.record, data, request)

    def retrained(self, roles: Mapping[str, int], **changes: Any) -> dict[str, list[nn.Module]]:
        """Return models trained without the request's records, side by side where that is faster.

        Args:
            roles: How many of which role; roles have seeds of their own.
            changes: Of the recipe.
        """
        runs = {r: [Run(seed=self._seed(f"{r} {k}"), device="cpu") for k in range(n)] for r, n in roles.items()}
        fresh: dict[str, list[nn.Module]] = {
            role: [Retrain.fresh(self.original.model, run) for run in own] for role, own in runs.items()
        }
        models, their = [m for own in fresh.values() for m in own], [run for own in runs.values() for run in own]
        recipe = self.recipe.but(**changes)
        if side_by_side(models):
            fit_together(models, self.split.retain, recipe, their, stage=Retrain.name)
        else:
            for model, run in zip(models, their, strict=True):
                fit(model, self.split.retain, recipe, run, stage=Retrain.name)
        return fresh

    def left(self, k: int) -> nn.Module:
        """Return a model trained with k of the records: of a class any, of items those with wrong labels."""
        run = Run(seed=self._seed(f"left {k}"), device="cpu")
        forget = self.split.forget
        among = np.isin(forget.indices, self.memorised) if self.memorised else np.ones(len(forget), bool)
        places = np.flatnonzero(among)
        drawn = torch.randperm(len(places), generator=run.generator("left"))[:k].numpy()
        part = self.split.retain.joined(forget.take(np.sort(places[drawn])))
        return fit(Retrain.fresh(self.original.model, run), part, self.recipe, run, stage=Retrain.name)

    def by(self, method: str) -> nn.Module:
        """Return what a method makes at its defaults."""
        seed = self._seed(method) % 1000
        return efface.forget(self.original, self.data, self.request, method=method, seed=seed, device="cpu").model

    def _seed(self, purpose: str) -> int:
        return Run(seed=self.asked.seed, device="cpu").number(f"{self.asked.target} {purpose}")

    def _trained(self, data: Data, validation: float = 0.1) -> Artifact:
        return efface.train(self.spec, data, recipe=self.recipe, validation=validation, device="cpu")

    def _mislabelled(self, data: Data) -> tuple[Data, Request]:
        """Return data in which some of the records that are asked for have wrong labels."""
        rng = np.random.default_rng(self.asked.seed)
        items = rng.choice(len(data.train), ASKED, replace=False)
        self.memorised = items[:MEMORISED].tolist()
        labels = data.train.labels.clone()
        labels[self.memorised] += torch.from_numpy(rng.integers(1, len(data.classes), MEMORISED))
        labels %= len(data.classes)
        (x,) = data.train.read([torch.arange(len(labels))])
        return dataclasses.replace(data, train=ArraySamples(x, labels)), Request(items=tuple(sorted(items.tolist())))
