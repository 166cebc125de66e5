"""Scores of utility: accuracies and the aggregates of the literature."""

from __future__ import annotations

import math

from torch import Tensor

from efface.auditing.answers import Subject
from efface.auditing.measures.accuracy import mask_classes
from efface.auditing.measures.aus import adaptive_unlearning_score
from efface.auditing.measures.tow import tug_of_war
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores, share_score

__all__ = ["utility_scores"]


def utility_scores(subject: Subject, reference: Subject | None, original: Subject) -> Scores:
    """Return accuracies, ToW, AUS and (without its attack) what NoMUS needs.

    Args:
        subject: The model.
        reference: The retrained model, if there is one.
        original: The original model.
    """
    scene = subject.scene
    parts = {
        "retain_accuracy": "retain",
        "forget_accuracy": "forget",
        "test_accuracy": "test_retain",
        "test_forget_accuracy": "test_forget",
    }
    scores: Scores = {}
    for key, part in parts.items():
        if len(subject.labels[part]) == 0:
            why = "the request names no class" if part == "test_forget" and not scene.by_class else f"no {part} records"
            scores[key] = Score.missing(why)
        else:
            scores[key] = share_score(
                subject.correct(part), None if reference is None else reference.correct(part), scene
            )
    scores["test_accuracy_masked"] = _masked(subject, reference)
    scores["tow"] = _tow(subject, reference)
    test, before, forget = (
        float(s.correct(part).double().mean()) if len(s.labels[part]) else math.nan
        for s, part in ((subject, "test_retain"), (original, "test_retain"), (subject, "forget"))
    )
    scores["aus"] = Score(
        value=adaptive_unlearning_score(test=test, test_original=before, forget=forget, items=not scene.by_class)
    )
    return scores


def _masked(subject: Subject, reference: Subject | None) -> Score:
    scene = subject.scene
    if not scene.by_class:
        return Score.missing("the request names no class")
    if len(subject.labels["test_retain"]) == 0:
        return Score.missing("the test data has no record of a kept class")

    def hits(s: Subject) -> Tensor:
        masked = mask_classes(s.logits["test_retain"], scene.split.forget_classes)
        return masked.argmax(1) == s.labels["test_retain"]

    return share_score(hits(subject), None if reference is None else hits(reference), scene)


def _tow(subject: Subject, reference: Subject | None) -> Score:
    if reference is None:
        return Score.missing(NO_REFERENCE)
    if reference is subject:
        return Score.missing(ITS_OWN)
    ours, theirs = (
        {part: float(s.correct(part).double().mean()) for part in ("forget", "retain", "test_retain")}
        for s in (subject, reference)
    )
    return Score(value=tug_of_war(ours, theirs))
