"""The table of an audit: every score of every row, and the floors that further retrained models give."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from efface.auditing.answers import AllAnswers, Answers
from efface.auditing.catalogue import MEASURES
from efface.auditing.floors import Floors
from efface.auditing.records import Records
from efface.auditing.rows import Rows
from efface.auditing.scores.agreement import RandomModel, agreement_scores, compared_scores
from efface.auditing.scores.cost import cost_scores
from efface.auditing.scores.ensembles import Thirds, ensemble_scores, thirds_scores
from efface.auditing.scores.exposure import BESIDE_UNSEEN, beside_unseen, exposure_scores
from efface.auditing.scores.features import Probed, probe_scores
from efface.auditing.scores.membership import membership_scores
from efface.auditing.scores.relearning import AIN, Relearned, relearning_scores
from efface.auditing.scores.score import Score, Scores
from efface.auditing.scores.utility import TOW, tow_score, utility_scores

__all__ = ["PAIRED", "Table"]

T = TypeVar("T")

PAIRED = 16
"""Most retrained models of which every pair is compared: 120 pairs; of 64 models there would be 2,016."""


@dataclass(frozen=True, eq=False)
class Table:
    """All scores.

    Attributes:
        scores: By row, each measure in the catalogue's order, with the original's, the retrained model's and the
            floor's value beside it.
        floors: Of retrained models.
        relearned: By row, how it relearns.
        meddled: Of a sealed audit: scores of the original with its head meddled with, for the questions that look for
            that.
    """

    scores: Mapping[str, Scores]
    floors: Floors
    relearned: Mapping[str, Relearned]
    meddled: Mapping[str, Score] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Rows,
        answers: AllAnswers,
        records: Records,
        thirds: Thirds | None = None,
        folder: Path | None = None,
    ) -> Table:
        """Compute all scores of all rows.

        Args:
            rows: The models.
            answers: Theirs.
            records: What they were asked.
            thirds: Shadow models and their roles.
            folder: Where probes and relearning of further retrained models are kept, and taken from; None asks again.
        """
        random_model = RandomModel.of(answers.original)
        relearned = _relearned(answers, records)
        tracked = records.run.track(answers.table.items(), "audit: probes", len(answers.table))
        probed = {name: Probed.of(a) for name, a in tracked}
        scores: dict[str, Scores] = {}
        for name, own in answers.table.items():
            found = {
                **_of_answers(own, answers, random_model, records.settings.resamples),
                **probe_scores(own, probed[name], _of_retrained(answers, probed)),
                **relearning_scores(relearned[name], _of_retrained(answers, relearned)),
                **_of_ensembles(own, answers, records, thirds),
                **cost_scores(rows[name], rows.retrained),
            }
            scores[name] = {key: found[key] for key in MEASURES}
        floors = _floors(scores, answers, random_model, relearned, records, folder)
        return cls(_beside(scores, answers, floors, records.settings.confidence), floors, relearned)


def _of_answers(own: Answers, answers: AllAnswers, random_model: RandomModel, resamples: int) -> Scores:
    """Return the scores that rest on logits alone; without resamples, their values only."""
    return {
        **utility_scores(own, answers.retrained, answers.original),
        **agreement_scores(own, answers.retrained, random_model, resamples=resamples),
        **membership_scores(own, answers.retrained, answers.everyone, resamples=resamples),
        **exposure_scores(own, answers.retrained, answers.everyone),
    }


def _of_retrained(answers: AllAnswers, by_name: Mapping[str, T]) -> T | None:
    return None if answers.retrained is None else by_name[answers.retrained.name]


def _relearned(answers: AllAnswers, records: Records) -> dict[str, Relearned]:
    """Let each row relearn, the retrained model first: its steps say how long the others are watched."""
    first = None if answers.retrained is None else Relearned.of(answers.retrained, answers.original)
    tracked = records.run.track(answers.table.items(), "audit: relearning", len(answers.table))
    return {
        name: first if first and own is answers.retrained else Relearned.of(own, answers.original, first)
        for name, own in tracked
    }


def _of_ensembles(own: Answers, answers: AllAnswers, records: Records, thirds: Thirds | None) -> Scores:
    if own is not answers.candidate:
        keys = [key for key, m in MEASURES.items() if m.group == "ensembles"]
        return {key: Score.missing("only the candidate's method was run several times") for key in keys}
    repeats = [own, *answers.repeats] if answers.repeats else []
    return {**ensemble_scores(repeats, answers.everyone, records), **thirds_scores(thirds, records)}


def _floors(
    scores: Mapping[str, Scores],
    answers: AllAnswers,
    random_model: RandomModel,
    relearned: Mapping[str, Relearned],
    records: Records,
    folder: Path | None,
) -> Floors:
    """Return what retrained models score: each by itself, and every pair of them where a score compares two."""
    floors = Floors()
    if answers.retrained is None:
        return floors
    floors.add({k: v for k, v in scores[answers.retrained.name].items() if not MEASURES[k].compares})
    courses = [relearned[answers.retrained.name]]
    for i, own in enumerate(records.run.track(answers.further, "audit: noise floors")):
        found = _of_answers(own, answers, random_model, resamples=0)
        if i < records.settings.floor_models:
            courses.append(Relearned.of(own, answers.original, courses[0], folder))
            found |= probe_scores(own, Probed.of(own, folder), None) | relearning_scores(courses[-1], None)
        floors.add({k: v for k, v in found.items() if not MEASURES[k].compares})
    for first, second in itertools.combinations(answers.everyone[:PAIRED], 2):
        floors.add(_of_pair(first, second))
    for one, other in itertools.combinations(courses, 2):
        floors.add({AIN.key: relearning_scores(one, other)[AIN.key]})
    return floors


def _of_pair(own: Answers, other: Answers) -> Scores:
    """Return the scores that compare one model with another, from logits alone, their values only."""
    return {
        TOW.key: tow_score(own, other),
        **compared_scores(own, other, resamples=0),
        BESIDE_UNSEEN.key: beside_unseen(own, other),
    }


def _beside(scores: Mapping[str, Scores], answers: AllAnswers, floors: Floors, confidence: float) -> dict[str, Scores]:
    """Put the original's, the retrained model's and the floor's value beside each score."""
    found: dict[str, Scores] = {}
    for name, own in scores.items():
        found[name] = {}
        for key, score in floors.beside(own, confidence).items():
            original, retrained = scores[answers.original.name][key], _of_retrained(answers, scores)
            others = {"original": None if name == answers.original.name else original.value}
            if retrained is not None and answers.retrained is not None and name != answers.retrained.name:
                others["reference"] = retrained[key].value
            found[name][key] = score.model_copy(update=others)
    return found
