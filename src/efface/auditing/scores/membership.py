"""Scores of attacks that tell forgotten records from unseen ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.auditing.answers import Subject
from efface.auditing.measures.intervals import Interval, percentiles, wilson
from efface.auditing.measures.logistic_attack import logistic_attack
from efface.auditing.measures.nomus import nomus
from efface.auditing.measures.rmia import log_ratio
from efface.auditing.measures.roc import attack_gap, auc, auc_draws, least_supported_fpr, tpr_at_fpr
from efface.auditing.records import Scene
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores, scored, strict, with_gap

__all__ = ["membership_scores", "rmia_records"]


def rmia_records(subject: Subject, retrained: Sequence[Subject]) -> tuple[Tensor, Tensor]:
    """Return RMIA's log ratio of the attacked forget records and of the unseen ones.

    At one target model, RMIA's score is a rising function of the ratio, so both rank alike; the ratio has no ties,
    which the score gets where the unseen records are also its population.

    Args:
        subject: The attacked model.
        retrained: Reference models, none of them the subject; at least one.
    """
    members, others = subject.attack_margins
    references = [r.attack_margins for r in retrained]
    return (
        log_ratio(members, torch.stack([r[0] for r in references])),
        log_ratio(others, torch.stack([r[1] for r in references])),
    )


def membership_scores(
    subject: Subject, reference: Subject | None, retrained: Sequence[Subject], *, resamples: int
) -> Scores:
    """Return the population attack, the attack on the loss, RMIA and NoMUS.

    Args:
        subject: The model.
        reference: The retrained model that gaps refer to, if there is one.
        retrained: All retrained models; the subject itself is left out.
        resamples: Of the bootstrap; 0 for values only.
    """
    scene = subject.scene
    keys = ("population_auc", "population_tpr", "loss_attack", "rmia_auc", "rmia_tpr", "nomus")
    shift = {"forget_shift": _shift(subject, reference, resamples)}
    if len(scene.members) < 2:
        why = (
            "fewer than two unseen records share a class with the forget data: the held-out data lacks "
            f"{_missing_classes(scene)}"
        )
        return {**shift, **{key: Score.missing(why) for key in keys}}
    others = [r for r in retrained if r is not subject]
    pair = subject.attack_margins
    scores = {
        **shift,
        "population_auc": _area(pair, None if reference is None else reference.attack_margins, scene, resamples),
        "population_tpr": _tpr(pair, scene),
    }
    attack = logistic_attack(*pair, scene.run.number("audit/loss attack"))
    scores["loss_attack"] = Score(value=attack)
    if others:
        records = rmia_records(subject, others)
        area = _area(records, None, scene, resamples)
        if reference is not None and resamples:
            area = _less_surprising(area, _area(records, reference.attack_margins, scene, resamples))
        scores["rmia_auc"], scores["rmia_tpr"] = area, _tpr(records, scene)
    else:
        why = NO_REFERENCE if not retrained else "the only retrained model cannot be its own reference"
        scores["rmia_auc"] = scores["rmia_tpr"] = Score.missing(why)
    if len(subject.labels["test_retain"]):
        scores["nomus"] = Score(value=nomus(float(subject.correct("test_retain").double().mean()), attack))
    else:
        scores["nomus"] = Score.missing("no test records of kept classes")
    return scores


def _shift(subject: Subject, reference: Subject | None, resamples: int) -> Score:
    if reference is None or reference is subject:
        return Score.missing(NO_REFERENCE if reference is None else ITS_OWN)
    chosen = subject.scene.watched
    return _area((subject.margin("forget")[chosen], reference.margin("forget")[chosen]), None, subject.scene, resamples)


def _missing_classes(scene: Scene) -> str:
    absent = sorted(set(scene.parts["forget"].labels.tolist()) - set(scene.parts["held_out"].labels.tolist()))
    return "class " + ", ".join(scene.split.data.classes[c] for c in absent) if absent else "enough of them"


def _area(pair: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor] | None, scene: Scene, resamples: int) -> Score:
    value = auc(*pair)
    if not resamples:
        return Score(value=value)
    draws = auc_draws(*pair, scene.run.generator("audit/auc"), resamples)
    if theirs is None:
        # Against one half, which two identical distributions give.
        gap = Interval(*(x - 0.5 for x in percentiles(value, draws, strict(scene))))
    else:
        generator = scene.run.generator("audit/auc gap")
        gap = attack_gap(pair, theirs, generator, resamples=resamples, confidence=strict(scene))
    return with_gap(scored(percentiles(value, draws, scene.settings.confidence)), gap)


def _less_surprising(chance: Score, own: Score) -> Score:
    """Keep the smaller of RMIA's two gaps: to chance, and to the AUC of the retrained model's own margins.

    Under class forgetting the references give p near 0, RMIA's ratio becomes the bare margin, and a difference between
    training and held-out data shows in retrained models too: only what exceeds both is the candidate's.
    """
    assert chance.gap is not None
    assert own.gap is not None
    if abs(chance.gap) <= abs(own.gap):
        return chance.model_copy(update={"why": "gap to chance"})
    return own.model_copy(update={"why": "gap to the retrained model's own margins"})


def _tpr(pair: tuple[Tensor, Tensor], scene: Scene) -> Score:
    least = least_supported_fpr(len(pair[1]))
    fpr = max(scene.settings.fpr, least)
    value = tpr_at_fpr(*pair, fpr)
    why = f"at a false-positive rate of {fpr:.2%}"
    if fpr > scene.settings.fpr:
        why += f", the least that {len(pair[1])} unseen records support"
    return scored(wilson(round(value * len(pair[0])), len(pair[0]), scene.settings.confidence), why)
