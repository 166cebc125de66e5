"""The few numbers that a comparison's cell keeps: percentages, for tables beside published ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from efface.auditing.measures.accuracy import accuracy
from efface.auditing.measures.probe import linear_probe
from efface.auditing.scores.relearning import relearn
from efface.data import Part, Split
from efface.models.head import head
from efface.models.predictions import features_of, logits_of
from efface.running.run import Run

__all__ = ["measure"]

PROBE_PER_CLASS = 200

RELEARN_CAP = 100

ALPHA = 0.05


def measure(
    model: nn.Module, original: nn.Module, split: Split, run: Run, measures: Sequence[str], sampled: int = 10_000
) -> dict[str, float]:
    """Return the scores of one model under one request, in per cent (steps for relearning).

    - `A_R`: accuracy on test samples of kept classes (for items: on the test set).
    - `E_F`: 100 - accuracy on test samples of forgotten classes (for items: on the samples to forget).
    - `RA`, `FA`: accuracy on retained training samples and on the samples to forget (at most `sampled` of each, drawn).
    - `probe`: recall of the forgotten classes' test samples by logistic regression on the features, fitted on at most
      200 training samples of every class.
    - `relearn`: steps of training on the samples to forget until accuracy there is within 5 points of the original's,
      at most 100.

    Args:
        model: What to measure, on the run's device.
        original: The model before forgetting.
        split: The data under the request.
        run: Randomness and device.
        measures: Some of `accuracy`, `probe`, `relearning`.
        sampled: Most training samples that `RA` and `FA` look at.
    """
    scores: dict[str, float] = {}
    classes = bool(split.forget_classes)
    kept, gone = split.test_retain, split.test_forget if classes else split.forget
    if "accuracy" in measures:
        scores["A_R"] = 100 * _accuracy(model, kept)
        scores["E_F"] = 100 - 100 * _accuracy(model, gone)
        scores["RA"] = 100 * _accuracy(model, split.retain.sample(sampled, run.generator("compare/retain")))
        scores["FA"] = 100 * _accuracy(model, split.forget.sample(sampled, run.generator("compare/forget")))
    if "probe" in measures and classes:
        scores["probe"] = 100 * _probe(model, split, run)
    if "relearning" in measures:
        target = max(0.0, _accuracy(run.copied(original), split.forget) - ALPHA)
        scores["relearn"] = relearn(model, split.forget, target, run.child(), cap=RELEARN_CAP).steps
    return scores


def _accuracy(model: nn.Module, part: Part) -> float:
    return accuracy(logits_of(model, part), part.labels)


def _probe(model: nn.Module, split: Split, run: Run) -> float:
    generator = run.generator("compare/probe")
    whole = split.forget.joined(split.retain)
    chosen = [
        whole.of_class(c).sample(PROBE_PER_CLASS, generator).indices
        for c in (*split.forget_classes, *split.retain_classes)
    ]
    train = Part("probe", split.data.train, torch.cat([torch.from_numpy(i) for i in chosen]).numpy())
    layer, _ = head(model, torch.zeros(2, *split.data.input_shape, device=run.device))
    answers = linear_probe(features_of(model, train, layer), train.labels, features_of(model, split.test_forget, layer))
    return float((answers == split.test_forget.labels).double().mean())
