"""Scores of agreement with the retrained model."""

from __future__ import annotations

from torch import Tensor

from efface.auditing.answers import Subject
from efface.auditing.measures.activation_distance import activation_distance
from efface.auditing.measures.agreement import agreement
from efface.auditing.measures.js_divergence import js_divergence
from efface.auditing.measures.zrf import zero_retrain_forgetting
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores, mean_score, share_score

__all__ = ["agreement_scores"]


def agreement_scores(subject: Subject, reference: Subject | None, twin: Tensor | str, *, resamples: int) -> Scores:
    """Return JS, activation distance and agreement with the retrained model, and ZRF.

    Args:
        subject: The model.
        reference: The retrained model, if there is one.
        twin: Logits of a randomly initialised twin on the forget data, or why there are none.
        resamples: Of the bootstrap; 0 for values only.
    """
    scene = subject.scene
    keys = ("forget_js", "test_js", "forget_activation_distance", "forget_agreement", "test_agreement")
    scores: Scores = {}
    for key in keys:
        part = "forget" if key.startswith("forget") else "test_retain"
        if reference is None or reference is subject:
            scores[key] = Score.missing(NO_REFERENCE if reference is None else ITS_OWN)
            continue
        if len(subject.labels[part]) == 0:
            scores[key] = Score.missing(f"no {part} records")
            continue
        pair = subject.logits[part], reference.logits[part]
        if key.endswith("agreement"):
            scores[key] = share_score(agreement(*pair), None, scene)
        else:
            each = js_divergence(*pair) if key.endswith("js") else activation_distance(*pair)
            scores[key] = mean_score(each, scene, key, resamples)
    if isinstance(twin, str):
        scores["zrf"] = Score.missing(twin)
    else:
        scores["zrf"] = Score(value=zero_retrain_forgetting(subject.logits["forget"], twin))
    return scores
