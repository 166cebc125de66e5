"""64 LeNet-5 references: as single-threaded processes (CPU) or as one batched network (GPU), against one by one."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator

import torch
from measure import Benchmark
from strokes import strokes

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.data import Data, Split
from efface.methods.applying import apply
from efface.methods.retrain import Retrain
from efface.models import lenet5
from efface.models.predictions import logits_of
from efface.references import train_references
from efface.references.backends import cores
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

MODELS = 64
TIMED = 8  # of the naive way: the models are alike, so a few tell the time of all
SAMPLES, EPOCHS = 10_000, 3  # MNIST has 60,000, and ten epochs are usual: 20 times as much
RECIPE = Recipe(lr=0.05, epochs=EPOCHS, batch_size=64)
REQUEST = Request(classes=(0,))


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    data = strokes(SAMPLES, 1_000)
    split = Split.of(data, REQUEST, 0.1, RECIPE.seed)
    original = given(lenet5().to(device), split, RECIPE, Run(device=str(device)))
    gpu = device.type == "cuda"
    how = "one batched network" if gpu else f"{cores()} processes, one thread each"
    yield Benchmark(
        f"{MODELS} LeNet-5 references, {SAMPLES} images, {EPOCHS} epochs: {how}",
        f"one after another, all threads, {TIMED} timed",
        lambda: _together(original, data, "vmap" if gpu else "processes", device),
        lambda: _one_by_one(original, split, device),
        bar=10.0 if gpu else 1.5,
        naive_share=TIMED / MODELS,
        repeats=1,
        remark=lambda made: _accuracies(made, split),
    )


def _together(original: Artifact, data: Data, backend: str, device: torch.device) -> list[Artifact]:
    """Everything that the user waits for: starting, training, the first model alone, saving, loading."""
    with tempfile.TemporaryDirectory() as folder:
        made = train_references(
            original, data, REQUEST, MODELS, f"{folder}/references", backend=backend, device=str(device)
        )
        return list(made)


def _one_by_one(original: Artifact, split: Split, device: torch.device) -> list[Artifact]:
    return [apply(Retrain(), Case(original, split, Run(seed=k, device=str(device)))) for k in range(TIMED)]


def _accuracies(made: list[Artifact], split: Split) -> str:
    labels = split.test_retain.labels
    found = [float((logits_of(m.model, split.test_retain).argmax(1) == labels).double().mean()) for m in made]
    return f"test accuracy {statistics.mean(found):.3f} +- {statistics.stdev(found):.3f}"
