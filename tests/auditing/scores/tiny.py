"""Records and answers without a trained model: the inputs are the logits, and a test says what a model answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efface.auditing.answers import Answers
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.request import Request
from efface.running.run import Run

CLASSES = ("a", "b", "c")


def records(
    train: Sequence[int],
    test: Sequence[int],
    seed: int = 0,
    settings: AuditSettings | None = None,
    names: Sequence[str] = CLASSES,
    **request: Any,
) -> Records:
    """Records of data with these labels, whose inputs are logits that answer the label by 1 + noise."""
    generator = torch.Generator().manual_seed(1)

    def samples(labels: Sequence[int]) -> ArraySamples:
        noise = 0.1 * torch.randn(len(labels), len(names), generator=generator)
        return ArraySamples(noise + torch.eye(len(names))[list(labels)], list(labels))

    data = Data("tiny", samples(train), samples(test), tuple(names))
    return Records.drawn(
        Split.of(data, Request(**request), validation=0), settings or AuditSettings(), Run(seed, device="cpu")
    )


def answers(records: Records, name: str = "model", matrix: Tensor | None = None, **logits: Tensor) -> Answers:
    """Answers of a linear model without bias (the identity unless given), or these logits on a part."""
    k = len(records.split.data.classes)
    model = nn.Linear(k, k, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(torch.eye(k) if matrix is None else matrix)
    found = Answers.of(Row(name, "other", model), records)
    if "held_out" not in logits:
        held_out = "test_forget" if records.by_class else "test_retain"
        logits |= {"held_out": logits[held_out]} if held_out in logits else {}
    return dataclasses.replace(found, logits={**found.logits, **logits})
