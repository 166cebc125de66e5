"""Scores of attacks that tell forgotten records from unseen ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.auditing.answers import Answers
from efface.auditing.measures.intervals import Interval, bootstrap_counts, percentiles, wilson
from efface.auditing.measures.logistic_attack import logistic_attack
from efface.auditing.measures.nomus import nomus
from efface.auditing.measures.rmia import log_ratio
from efface.auditing.measures.roc import attack_gap, auc, auc_draws, auc_over_models, least_supported_fpr, tpr_at_fpr
from efface.auditing.records import Records
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores, scored, with_gap

__all__ = ["MEASURES", "membership_scores", "rmia_records"]

SHIFT = Measure(
    key="forget_shift",
    group="membership",
    title="Margins above retrained models', forget data (AUC)",
    unit="share",
    best="0.5",
    reading="Chance that a forget record gets a higher margin than another one gets from a retrained model, over all "
    "of those; above 50 % knowledge is left, below 50 % the records are rejected more than by a model that never saw "
    "them.",
)

POPULATION_AUC = Measure(
    key="population_auc",
    group="membership",
    title="Attack with one threshold (AUC)",
    unit="share",
    best="reference",
    reading="Chance that a forgotten record looks more familiar to the model than an unseen one of the same class; "
    "50 % is chance, and both sides of it betray something.",
)

POPULATION_TPR = Measure(
    key="population_tpr",
    group="membership",
    title="Forget records found at a low false-positive rate",
    unit="share",
    best="reference",
    reading="Share of the forget records that the one-threshold attack finds while hardly accusing unseen ones.",
)

LOSS_ATTACK = Measure(
    key="loss_attack",
    group="membership",
    title="Attack by logistic regression on the loss",
    unit="share",
    best="reference",
    reading="Balanced accuracy of the 2023 challenge's attack; 50 % is chance.",
)

RMIA_AUC = Measure(
    key="rmia_auc",
    group="membership",
    title="Attack per record with reference models (RMIA, AUC)",
    unit="share",
    best="reference",
    source="arXiv 2312.03262",
    reading="Chance that a forgotten record is better known than an unseen one, compared with models that never saw "
    "either; 50 % is chance.",
)

RMIA_TPR = Measure(
    key="rmia_tpr",
    group="membership",
    title="RMIA: forget records found at a low false-positive rate",
    unit="share",
    best="reference",
    source="arXiv 2312.03262",
    reading="Share of the forget records that the attack per record finds while hardly accusing unseen ones.",
)

NOMUS = Measure(
    key="nomus",
    group="utility",
    title="NoMUS",
    unit="share",
    best="1",
    source="arXiv 2311.02240",
    reading="Test accuracy and an attack's failure, averaged; never used in the verdict, because a retrained model "
    "need not reach 1.",
)

MEASURES = (SHIFT, POPULATION_AUC, POPULATION_TPR, LOSS_ATTACK, RMIA_AUC, RMIA_TPR, NOMUS)


def rmia_records(answers: Answers, retrained: Sequence[Answers]) -> tuple[Tensor, Tensor]:
    """Return RMIA's log ratio of the attacked forget records and of the unseen ones.

    At one target model, RMIA's score is a rising function of the ratio, so both rank alike; the ratio has no ties,
    which the score gets where the unseen records are also its population.

    Args:
        answers: Of the attacked model.
        retrained: Of reference models, none of them the attacked one; at least one.
    """
    members, others = answers.attack_margins
    references = [r.attack_margins for r in retrained]
    return (
        log_ratio(members, torch.stack([r[0] for r in references])),
        log_ratio(others, torch.stack([r[1] for r in references])),
    )


def membership_scores(
    answers: Answers, reference: Answers | None, retrained: Sequence[Answers], *, resamples: int
) -> Scores:
    """Return the shift of margins, the population attack, the attack on the loss, RMIA and NoMUS.

    Args:
        answers: The model's.
        reference: Of the retrained model that gaps refer to, if there is one.
        retrained: Of all retrained models; the model itself is left out.
        resamples: Of the bootstrap; 0 for values only.
    """
    records = answers.records
    shift = {SHIFT.key: _shift(answers, retrained, resamples)}
    if len(records.members) < 2:
        why = (
            "fewer than two unseen records share a class with the forget data: the held-out data lacks "
            f"{_missing_classes(records)}"
        )
        return {**{m.key: Score.missing(why) for m in MEASURES}, **shift}
    pair = answers.attack_margins
    attack = logistic_attack(*pair, records.run.number("audit/loss attack"))
    area, rate = _rmia(answers, reference, retrained, resamples)
    return {
        **shift,
        POPULATION_AUC.key: _area(pair, None if reference is None else reference.attack_margins, records, resamples),
        POPULATION_TPR.key: _tpr(pair, records),
        LOSS_ATTACK.key: Score(value=attack),
        RMIA_AUC.key: area,
        RMIA_TPR.key: rate,
        NOMUS.key: Score(value=nomus(answers.accuracy("test_retain"), attack))
        if len(answers.labels["test_retain"])
        else Score.missing("no test records of kept classes"),
    }


def _rmia(
    answers: Answers, reference: Answers | None, retrained: Sequence[Answers], resamples: int
) -> tuple[Score, Score]:
    """Return RMIA's AUC and its true-positive rate."""
    others = [r for r in retrained if r is not answers]
    if not others:
        why = NO_REFERENCE if not retrained else "the only retrained model cannot be its own reference"
        return Score.missing(why), Score.missing(why)
    pair = rmia_records(answers, others)
    area = _area(pair, None, answers.records, resamples)
    if reference is not None and reference is not answers and resamples:
        gap, why = _rmia_gap(answers, reference, others, resamples)
        area = with_gap(area, gap).model_copy(update={"why": why})
    return area, _tpr(pair, answers.records)


def _rmia_gap(answers: Answers, reference: Answers, others: Sequence[Answers], resamples: int) -> tuple[Interval, str]:
    """Return how far the attack's AUC is above the one on the retrained model, and what that rests on.

    Both are attacked alike: with all further retrained models as references; where there are none, each with the other
    model as its reference. Were the candidate one more retrained model, the two would have changed places as often, so
    that a difference on either side is the candidate's. One half is not what to expect: held-out data that is harder
    than training data, or a class that no reference knows, moves the AUC of retrained models too.
    """
    further = [r for r in others if r is not reference]
    pairs = rmia_records(answers, further or [reference]), rmia_records(reference, further or [answers])
    records = answers.records
    generator, confidence = records.run.generator("audit/auc gap"), records.simultaneous_confidence
    gap = attack_gap(*pairs, generator, resamples=resamples, confidence=confidence)
    count = f"{len(further)} further retrained models" if len(further) > 1 else "the other retrained model"
    return gap, f"gap to the same attack on the retrained model, by {count if further else 'each other'}"


def _shift(answers: Answers, retrained: Sequence[Answers], resamples: int) -> Score:
    others = [r for r in retrained if r is not answers]
    if not others:
        return Score.missing(ITS_OWN if retrained else NO_REFERENCE)
    records = answers.records
    ours, theirs = (m[..., records.watched] for m in _margins(answers, others))
    value, influence = auc_over_models(ours, theirs)
    if not resamples:
        return Score(value=value)
    generator = records.run.generator("audit/shift")
    draws = value + torch.cat([c @ influence for c in bootstrap_counts(len(ours), resamples, generator)]) / len(ours)
    gap = percentiles(value, draws, records.simultaneous_confidence)
    score = scored(percentiles(value, draws.clamp(0, 1), records.settings.confidence))
    return with_gap(score, Interval(*(x - 0.5 for x in gap)))  # against one half, which two identical models give


def _margins(answers: Answers, others: Sequence[Answers]) -> tuple[Tensor, Tensor]:
    return answers.margin("forget"), torch.stack([r.margin("forget") for r in others])


def _missing_classes(records: Records) -> str:
    absent = sorted(set(records.parts["forget"].labels.tolist()) - set(records.parts["held_out"].labels.tolist()))
    return "class " + ", ".join(records.split.data.classes[c] for c in absent) if absent else "enough of them"


def _area(pair: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor] | None, records: Records, resamples: int) -> Score:
    value = auc(*pair)
    if not resamples:
        return Score(value=value)
    draws = auc_draws(*pair, records.run.generator("audit/auc"), resamples)
    if theirs is None:
        # Against one half, which two identical distributions give.
        gap = Interval(*(x - 0.5 for x in percentiles(value, draws, records.simultaneous_confidence)))
    else:
        generator = records.run.generator("audit/auc gap")
        gap = attack_gap(pair, theirs, generator, resamples=resamples, confidence=records.simultaneous_confidence)
    return with_gap(scored(percentiles(value, draws, records.settings.confidence)), gap)


def _tpr(pair: tuple[Tensor, Tensor], records: Records) -> Score:
    least = least_supported_fpr(len(pair[1]))
    fpr = max(records.settings.fpr, least)
    value = tpr_at_fpr(*pair, fpr)
    why = f"at a false-positive rate of {fpr:.2%}"
    if fpr > records.settings.fpr:
        why += f", the least that {len(pair[1])} unseen records support"
    return scored(wilson(round(value * len(pair[0])), len(pair[0]), records.settings.confidence), why)
