"""How long an audit takes beside a given retrained model, and what kept answers save the next one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace

import torch
from measure import Benchmark
from strokes import strokes

import efface
from efface.artifact.artifact import Artifact
from efface.auditing.result import Audit
from efface.auditing.settings import AuditSettings
from efface.references import References, train_references

RECIPE = efface.Recipe(lr=0.05, epochs=1, batch_size=128)
REQUEST = efface.Request(classes=(0,))
MODELS = 6


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    where = str(device)
    data = strokes(60_000, 10_000)
    original = efface.train("lenet5", data, recipe=RECIPE, device=where)
    forgotten = efface.forget(original, data, REQUEST, method="gradient-ascent", device=where)
    retrained = efface.forget(original, data, REQUEST, method="retrain", device=where)
    yield Benchmark(
        "audit of level (b), LeNet-5, 60,000 images of 28 x 28, a retrained model given",
        "at most 20 s",
        lambda: efface.audit(forgotten, data, retrained=retrained, device=where),
        20.0,
        bar=1.0,
        repeats=1,
        remark=_said,
    )
    small = strokes(6_000, 10_000)
    original = efface.train("lenet5", small, recipe=RECIPE, device=where)
    forgotten = efface.forget(original, small, REQUEST, method="logit-mask", device=where)
    with tempfile.TemporaryDirectory() as folder:
        found = train_references(original, small, REQUEST, MODELS, f"{folder}/references", device=where)
        _audited(forgotten, small, found, where)
        yield Benchmark(
            f"audit of level (c), LeNet-5, {MODELS} references, answers, probes and relearning kept",
            "asking each model again",
            lambda: _audited(forgotten, small, found, where),
            lambda: _audited(forgotten, small, replace(found, keep_answers=False), where),
            bar=None,
            repeats=1,
            remark=_said,
        )
        yield Benchmark(
            f"the same, at most 45 s, {MODELS} references",
            "at most 45 s",
            lambda: _audited(forgotten, small, found, where),
            45.0,
            bar=1.0,
            repeats=1,
            remark=_said,
        )
        _audited(forgotten, small, found, where, sealed=True)
        yield Benchmark(
            f"sealed audit, LeNet-5, {MODELS} references, all looks kept",
            "three times the audit that is not sealed",
            lambda: _audited(forgotten, small, found, where, sealed=True),
            lambda: [_audited(forgotten, small, found, where) for _ in range(3)],
            bar=1.0,
            repeats=1,
            remark=_said,
        )


def _audited(model: Artifact, data: efface.Data, references: References, device: str, *, sealed: bool = False) -> Audit:
    settings = AuditSettings(sealed=sealed)
    return efface.audit(model, data, retrained=references, settings=settings, device=device)


def _said(audit: Audit) -> str:
    return f"level ({audit.level}), {audit.references} retrained, {len(audit.rows)} rows"
