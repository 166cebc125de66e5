"""Members of an ensemble trained side by side, in processes of one thread, against one after another."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import torch
from measure import Benchmark
from strokes import strokes

from efface.artifact.artifact import Artifact
from efface.data import Data, Split
from efface.methods.applying import prepare
from efface.methods.arcane import Arcane
from efface.methods.method import Method
from efface.methods.sisa import Sisa
from efface.models import mlp
from efface.running.engines import cores
from efface.running.run import Backend, Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe

RECORDS = 20_000
RECIPE = Recipe(lr=0.05, epochs=10, batch_size=64)
WAYS: dict[str, Method] = {
    "10 one-class autoencoders of ARCANE, 20 epochs": Arcane(score="autoencoder", size=30, blocks=1),
    "10 members of SISA, MLP 784-200-10, 10 epochs": Sisa(shards=10, slices=1),
}


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    if device.type != "cpu":
        return  # processes train on CPU cores
    data, begun = strokes(RECORDS, 100), time.perf_counter()
    # PyTorch is imported for the first processes of a run: for seconds, in which this one trains on.
    _made(Sisa(shards=cores() + 1, slices=1), strokes(200, 10), "processes")
    start = time.perf_counter() - begun
    for name, method in WAYS.items():
        alone: list[Artifact] = []
        yield Benchmark(
            f"{name}, {RECORDS} images: {cores()} processes started before, one thread each",
            "one after another",
            lambda method=method: _made(method, data, "processes"),
            lambda method=method, alone=alone: alone.append(_made(method, data, "serial")),
            bar=1.5 if cores() > 1 else None,
            repeats=1,
            remark=lambda made, alone=alone: _remark(made, alone[-1], start),
        )


def _remark(made: Artifact, alone: Artifact, start: float) -> str:
    same = "the same bits" if made.record.weights_after == alone.record.weights_after else "OTHER BITS"
    beside, before = (sum(r.get("cpu_seconds", 0.0) for r in a.record.history) for a in (made, alone))
    load = f"; load {os.getloadavg()[0]:.0f} on {cores()} cores" if hasattr(os, "getloadavg") else ""
    return f"{same}; {beside:.1f} s of the processors, alone {before:.1f}; the first start took {start:.1f} s{load}"


def _made(method: Method, data: Data, backend: Backend) -> Artifact:
    with seeded(0):
        model = mlp(input_shape=(1, 28, 28), num_classes=10, hidden=(200,))
    return prepare(method, model, Split.of(data), RECIPE, Run(device="cpu", backend=backend))
