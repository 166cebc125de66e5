"""Scores that look past the answers: probes of the features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.auditing.answers import Subject, checked_logits
from efface.auditing.measures.intervals import bootstrap_mean, paired_gap, percentiles
from efface.auditing.measures.probe import few_record_probe, kept_outputs, linear_probe
from efface.auditing.measures.separation import class_separation
from efface.auditing.records import Scene
from efface.auditing.scores.score import Score, Scores, mean_score, scored, share_score, strict, with_gap
from efface.errors import InputError
from efface.models.predictions import features_of

__all__ = ["probe_gaps", "probe_scores"]


def probe_scores(subject: Subject) -> tuple[Scores, dict[str, Tensor]]:
    """Return the probes and, for gaps, what each rests on: hits on each unseen record, or bootstrap draws.

    Args:
        subject: The model.
    """
    scene, settings = subject.scene, subject.scene.settings
    keys = ("probe_recall", "probe_recall_few", "separation", "probe_outputs")
    if not scene.by_class:
        return {
            k: Score.missing("the request names no class: single items have no head of their own") for k in keys
        }, {}
    train, test = scene.parts["probe_train"], scene.parts["probe_test"]
    if len(test) == 0:
        return {k: Score.missing("the test data holds no record of the forgotten classes") for k in keys}, {}
    scores: Scores = {}
    hits: dict[str, Tensor] = {}
    y, z = train.labels, test.labels
    try:
        features = features_of(subject.model, train, subject.layer), features_of(subject.model, test, subject.layer)
        hits["probe_recall"] = (linear_probe(features[0], y, features[1]) == z).double()
        per_class = min(settings.few_per_class, int(torch.bincount(y)[y.unique()].min()))
        votes = few_record_probe(
            features[0],
            y,
            features[1],
            scene.run.generator("audit/few records"),
            per_class=per_class,
            draws=settings.few_draws,
        )
        hits["probe_recall_few"] = votes[torch.arange(len(z)), z]
        generator = scene.run.generator("audit/separation")
        hits["separation"] = class_separation(features[0], y, scene.split.forget_classes, generator, settings.resamples)
    except InputError as error:
        scores |= {k: Score.missing(str(error)) for k in keys[:3] if k not in hits}
    try:
        kept = [
            kept_outputs(checked_logits(subject.model, p, name=subject.name), scene.split.forget_classes)
            for p in (train, test)
        ]
        hits["probe_outputs"] = (linear_probe(kept[0], y, kept[1]) == z).double()
    except InputError as error:
        scores["probe_outputs"] = Score.missing(str(error))
    for key, share in hits.items():
        why = f"{per_class} records per class, {settings.few_draws} draws" if key == "probe_recall_few" else ""
        if key == "separation":
            scores[key] = scored(percentiles(float(share[0]), share[1:], settings.confidence))
        elif key == "probe_recall_few":
            scores[key] = mean_score(share, scene, key, settings.resamples, why)
        else:
            scores[key] = share_score(share, None, scene)
    return {key: scores[key] for key in keys}, hits


def probe_gaps(scores: Scores, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], scene: Scene) -> Scores:
    """Return the probes' scores with gaps to the retrained model's, on the same unseen records.

    Args:
        scores: From `probe_scores`.
        ours: What they rest on.
        theirs: The same of the retrained model.
        scene: Where the bootstrap's randomness comes from.
    """
    found = dict(scores)
    for key in ours.keys() & theirs.keys():
        if key == "separation":
            each = ours[key] - theirs[key]
            gap = percentiles(float(each[0]), each[1:], strict(scene))
        elif key == "probe_recall_few":
            gap = bootstrap_mean(
                ours[key] - theirs[key],
                scene.run.generator(f"audit/bootstrap/{key} gap"),
                resamples=scene.settings.resamples,
                confidence=strict(scene),
            )
        else:
            gap = paired_gap(ours[key], theirs[key], strict(scene))
        found[key] = with_gap(scores[key], gap)
    return found
