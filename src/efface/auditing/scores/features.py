"""Scores that look past the answers: probes of the features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from efface.auditing.answers import Answers, checked_logits
from efface.auditing.kept import Found, depends_on, remembered
from efface.auditing.measures.intervals import bootstrap_mean, paired_gap, percentiles
from efface.auditing.measures.probe import few_record_probe, kept_outputs, linear_probe
from efface.auditing.measures.separation import class_separation
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Score, Scores, mean_score, scored, share_score, with_gap
from efface.errors import InputError
from efface.models.predictions import features_of
from efface.words import counted

__all__ = ["MEASURES", "Probed", "probe_scores"]

PROBE = Measure(
    key="probe_recall",
    group="features",
    title="New head on frozen features: forgotten classes recognised",
    unit="share",
    best="reference",
    reading="A fresh last layer is fitted on the model's features with all training classes; if it recognises the "
    "forgotten classes better than on a retrained model's features, the knowledge was hidden, not removed.",
)

FEW = Measure(
    key="probe_recall_few",
    group="features",
    title="New head from a few records: forgotten classes recognised",
    unit="share",
    best="reference",
    reading="The same with a head made from very few records per class (nearest mean), averaged over many draws; tells "
    "features apart where the full probe is always right.",
)

SEPARATION = Measure(
    key="separation",
    group="features",
    title="How far the forgotten classes stand apart in the features",
    unit="ratio",
    best="reference",
    reading="Squared distance of a forgotten class's mean to the nearest kept class's, over the mean spread within "
    "classes; a network that learned the class holds it further apart than one that never saw it.",
)

OUTPUTS = Measure(
    key="probe_outputs",
    group="features",
    title="New head on the other classes' outputs",
    unit="share",
    best="reference",
    reading="The forgotten classes' own outputs are removed; this is how far the remaining ones still give them away.",
)

MEASURES = (PROBE, FEW, SEPARATION, OUTPUTS)


@dataclass(frozen=True, eq=False)
class Probed:
    """What a model's probes rest on.

    Attributes:
        hits: By measure: hits on each unseen record, or for separation the value and its bootstrap draws.
        missing: By measure, why there is nothing.
        few: Records per class of the probe from a few.
    """

    hits: dict[str, Tensor]
    missing: dict[str, Score]
    few: int = 0

    @classmethod
    def of(cls, answers: Answers, folder: Path | None = None) -> Probed:
        """Probe one model's features and its outputs for kept classes.

        Args:
            answers: The model's.
            folder: Where to keep what was found, and to take it from; None probes again.

        Raises:
            InputError: A kept file is damaged.
        """

        def find() -> Found:
            made = cls._now(answers)
            return made.hits, {"missing": {k: v.why for k, v in made.missing.items()}, "few": made.few}

        hits, about = remembered(folder, "probes", depends_on(answers), find)
        return cls(hits, {k: Score.missing(why) for k, why in about["missing"].items()}, about["few"])

    @classmethod
    def _now(cls, answers: Answers) -> Probed:
        records, settings = answers.records, answers.records.settings
        if not records.by_class:
            return cls._nothing("the request names no class: single items have no head of their own")
        train, test = records.parts["probe_train"], records.parts["probe_test"]
        if len(test) == 0:
            return cls._nothing("the test data holds no record of the forgotten classes")
        y, z = train.labels, test.labels
        few = min(settings.few_per_class, int(torch.bincount(y)[y.unique()].min()))
        inside: list[Tensor] = []

        def features() -> tuple[Tensor, Tensor]:
            if not inside:
                inside.extend([features_of(answers.model, part, answers.layer) for part in (train, test)])
            return inside[0], inside[1]

        def full() -> Tensor:
            return (linear_probe(features()[0], y, features()[1]) == z).double()

        def from_few() -> Tensor:
            generator, draws = records.run.generator("audit/few records"), settings.few_draws
            votes = few_record_probe(features()[0], y, features()[1], generator, per_class=few, draws=draws)
            return votes[torch.arange(len(z)), z]

        def apart() -> Tensor:
            generator = records.run.generator("audit/separation")
            return class_separation(features()[0], y, records.probed_forgotten, generator, settings.resamples)

        def outputs() -> Tensor:
            gone = records.split.forget_classes
            kept = [kept_outputs(checked_logits(answers.model, p, name=answers.name), gone) for p in (train, test)]
            return (linear_probe(kept[0], y, kept[1]) == z).double()

        found: dict[str, Tensor] = {}
        missing: dict[str, Score] = {}
        probes: tuple[tuple[Measure, Callable[[], Tensor]], ...] = (
            (PROBE, full),
            (FEW, from_few),
            (SEPARATION, apart),
            (OUTPUTS, outputs),
        )
        for measure, probe in probes:
            try:
                found[measure.key] = probe()
            except InputError as error:
                missing[measure.key] = Score.missing(str(error))
        return cls(found, missing, few)

    @classmethod
    def _nothing(cls, why: str) -> Probed:
        return cls({}, {m.key: Score.missing(why) for m in MEASURES})


def probe_scores(answers: Answers, ours: Probed, theirs: Probed | None) -> Scores:
    """Return the probes' scores, with gaps to the retrained model's on the same unseen records.

    Args:
        answers: The model's.
        ours: Its probes.
        theirs: The retrained model's; None for values only.
    """
    return {m.key: _score(m, answers, ours, theirs) for m in MEASURES}


def _score(measure: Measure, answers: Answers, ours: Probed, theirs: Probed | None) -> Score:
    key, records, settings = measure.key, answers.records, answers.records.settings
    if key in ours.missing:
        return ours.missing[key]
    hits, confidence = ours.hits[key], records.simultaneous_confidence
    other = None if theirs is None else theirs.hits.get(key)
    if measure is SEPARATION:
        score = scored(percentiles(float(hits[0]), hits[1:], settings.confidence), records.among)
        if other is None:
            return score
        return with_gap(score, percentiles(float(hits[0] - other[0]), (hits - other)[1:], confidence))
    if measure is FEW:
        why = f"{counted(ours.few, 'record')} per class, {counted(settings.few_draws, 'draw')}"
        why += f", {records.among}" if records.among else ""
        score = mean_score(hits, records, key, settings.resamples, why)
        if other is None:
            return score
        generator = records.run.generator(f"audit/bootstrap/{key} gap")
        gap = bootstrap_mean(hits - other, generator, resamples=settings.resamples, confidence=confidence)
        return with_gap(score, gap)
    score = share_score(hits, None, records, records.among)
    return score if other is None else with_gap(score, paired_gap(hits, other, confidence))
