"""Deleting one record from SISA's members against retraining one model on everything else."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measure import Benchmark

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Split
from efface.methods.applying import apply, prepare
from efface.methods.retrain import Retrain
from efface.methods.sisa import Sisa
from efface.models import mlp
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe

RECORDS, SHARDS = 20_000, 20


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(RECORDS, 1, 28, 28, generator=generator)
    labels = (x.flatten(1) @ torch.randn(784, 10, generator=generator)).argmax(1)
    data = Data("random images", ArraySamples(x, labels), ArraySamples(x[:100], labels[:100]), tuple("0123456789"))
    with seeded(0):
        model = mlp(input_shape=(1, 28, 28), num_classes=10, hidden=(200,))
    recipe, everything = Recipe(lr=0.05, epochs=10, batch_size=64), Split.of(data)
    split = Split.of(data, Request.of(items=[int(everything.train.indices[RECORDS // 2])]))
    plain = prepare(None, model, everything, recipe.but(epochs=0.01), Run(device=str(device)))
    plain = Artifact(plain.model, plain.record.model_copy(update={"recipe": recipe}))  # only its recipe matters
    method = Sisa(shards=SHARDS, slices=1)
    members = prepare(method, model, everything, recipe, Run(device=str(device)))
    yield Benchmark(
        f"SISA, one record deleted, {SHARDS} shards, MLP 784-200-10",
        "retraining one model on the other records",
        lambda: apply(method, Case(members, split, Run(seed=1, device=str(device)))),
        lambda: apply(Retrain(), Case(plain, split, Run(seed=1, device=str(device)))),
        bar=10.0,
        repeats=3,
        remark=lambda made: made.record.notes[0].removeprefix("sisa: "),
    )
