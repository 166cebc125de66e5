"""What grows with the data: records from 1e5 to 1e7, classes from 10 to 1000; seconds, memory, size of audit.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from measure import Benchmark

import efface
from efface.auditing.measures.probe import linear_probe
from efface.auditing.records import Records
from efface.auditing.result import Audit
from efface.auditing.settings import AuditSettings
from efface.data import Data, Split
from efface.data.samples import ArraySamples
from efface.data.split import held_out_of
from efface.models.spec import ModelSpec
from efface.running.run import Run

ACCESSES = 10
"""How often each part of a split is asked for."""

REQUEST = efface.Request(classes=(0,))

PER_CLASS = 50
"""Training records of each class in the audits."""


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    if device.type == "cpu":  # none of this runs on a GPU
        yield from _splits()
        yield _draws()
        yield _probes()
        yield from _audits()


def _splits() -> Iterator[Benchmark]:
    small = _records(10**5)
    for n in (10**5, 10**6):
        yield Benchmark(
            f"split of {n:,} records of 8 numbers, each part asked for {ACCESSES} times",
            "positions in sets, sorted at each access",
            partial(_split, data := small if n == 10**5 else _records(n)),
            partial(_split_by_sets, data),
            bar=5.0,
            repeats=1,
        )
    for n in (10**6, 10**7):
        yield Benchmark(
            f"split of {n:,} records, each part asked for {ACCESSES} times",
            f"{n // 10**5} times that of 100,000",
            partial(_split, _records(n)),
            partial(_split, small),
            bar=0.5,
            naive_share=10**5 / n,
        )


def _draws() -> Benchmark:
    """What an audit draws: a pass over the data for each class would show."""
    few, many = _records(10**6, 10), _records(10**6, 1000)
    return Benchmark(
        "records of an audit, drawn from 1,000,000 of 1000 classes",
        "twice that of 10 classes",
        lambda: Records.drawn(Split.of(many, REQUEST), AuditSettings(), Run(device="cpu")),
        lambda: Records.drawn(Split.of(few, REQUEST), AuditSettings(), Run(device="cpu")),
        bar=1.0,
        naive_share=0.5,
    )


def _probes() -> Benchmark:
    """One probe of an audit, on 64 features; the naive way takes one step of a hundred."""
    data = _clusters(1000, 200, width=64)
    split = Split.of(data, REQUEST, validation=0)
    records = Records.drawn(split, AuditSettings(), Run(device="cpu"))
    (x, y), (z, _) = (records.parts[part].tensors() for part in ("probe_train", "probe_test"))
    everyone, labels = split.train.tensors()
    return Benchmark(
        f"full probe of 1000 classes, {records.among}, {len(y):,} records",
        f"all classes, {len(labels):,} records, at a hundred steps",
        lambda: linear_probe(x, y, z),
        lambda: linear_probe(everyone, labels, z, steps=1),
        bar=10.0,
        naive_share=0.01,
        repeats=1,
    )


def _audits() -> Iterator[Benchmark]:
    """Each against ten times that of a tenth of the classes."""
    audits = {classes: _audit(classes) for classes in (10, 100, 1000)}
    for classes in (100, 1000):
        yield Benchmark(
            f"audit of level (b), perceptron, {classes} classes, {PER_CLASS} records each",
            f"ten times that of {classes // 10} classes",
            audits[classes],
            audits[classes // 10],
            bar=1.0 if classes == 1000 else None,
            naive_share=0.1,
            repeats=1,
            remark=_size,
        )


def _records(n: int, classes: int = 10) -> Data:
    """Return n training records of 8 numbers."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 8), dtype=np.float32), rng.integers(0, classes, n)
    return Data("records", ArraySamples(x, y), ArraySamples(x[:10_000], y[:10_000]), tuple(map(str, range(classes))))


def _clusters(classes: int, per_class: int, width: int = 32) -> Data:
    """Return classes that overlap a little, with ten test records each."""
    rng = np.random.default_rng(0)
    centres = 1.5 * rng.standard_normal((classes, width), dtype=np.float32)

    def samples(each: int) -> ArraySamples:
        y = np.arange(classes * each) % classes
        return ArraySamples(centres[y] + rng.standard_normal((len(y), width), dtype=np.float32), y)

    return Data("clusters", samples(per_class), samples(10), tuple(map(str, range(classes))))


def _split(data: Data) -> int:
    split = Split.of(data, REQUEST)
    return sum(len(p) for _ in range(ACCESSES) for p in (split.forget, split.retain, split.train, split.validation))


def _split_by_sets(data: Data) -> int:
    """The same with a set of positions for each part, sorted whenever it is asked for: as it was at first."""
    labels = data.train_labels
    held_out = set(held_out_of(data, 0.1, 0).tolist())
    wanted = set(np.flatnonzero(np.isin(labels, REQUEST.classes)).tolist())
    everyone = set(range(len(labels)))
    parts = (wanted - held_out, everyone - wanted - held_out, everyone - held_out, held_out)
    return sum(len(np.array(sorted(part))) for _ in range(ACCESSES) for part in parts)


def _audit(classes: int) -> Any:
    """Return what audits a masked perceptron beside a retrained one."""
    data = _clusters(classes, PER_CLASS)
    recipe = efface.Recipe(lr=0.1, epochs=1, batch_size=128)
    spec = ModelSpec(build="mlp", arguments={"hidden": [64]})
    original = efface.train(spec, data, recipe=recipe, device="cpu")
    masked, retrained = (
        efface.forget(original, data, REQUEST, method=m, device="cpu") for m in ("logit-mask", "retrain")
    )
    return lambda: efface.audit(masked, data, retrained=retrained, device="cpu")


def _size(audit: Audit) -> str:
    """Say how large audit.json is, and would be with whole confusion tables."""
    k = len(audit.classes)
    cut = {name: [[0] * k] * k for name in audit.plots.confusion}
    size = len(audit.to_json())
    whole = size - len(json.dumps(audit.plots.confusion, indent=2)) + len(json.dumps(cut, indent=2))
    return f"audit.json {size / 1e3:,.0f} kB, with whole confusion tables {whole / 1e3:,.0f} kB"
