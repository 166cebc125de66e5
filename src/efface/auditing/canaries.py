"""The canaries' part of an audit: its questions, and what canaries say about the records asked for themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from efface.auditing.answers import AllAnswers
from efface.auditing.checks import Check, sided, weighed
from efface.auditing.measures.exposure import deviations
from efface.auditing.questions import OF_CANARIES, Question
from efface.auditing.records import Records
from efface.auditing.scores.canaries import MEASURES, CanaryRecords, canary_scores_of
from efface.auditing.scores.exposure import EXPOSURE, LEAST
from efface.auditing.scores.score import Score, Scores
from efface.auditing.table import Table
from efface.errors import InputError
from efface.words import counted

__all__ = ["about_the_records", "canaries_instead", "canary_checks", "with_canaries"]


def with_canaries(table: Table, answers: AllAnswers, records: Records) -> Table:
    """Return a table with the canaries' scores beside its own.

    Args:
        table: Of the audit.
        answers: Of its rows.
        records: What they were asked.
    """
    found: dict[str, Scores]
    try:
        drawn = CanaryRecords.drawn(records)
    except InputError as error:
        found = {name: {m.key: Score.missing(str(error)) for m in MEASURES} for name in answers.table}
    else:
        tracked = records.run.track(answers.table.items(), "audit: canaries", len(answers.table))
        found = {name: canary_scores_of(own, drawn) for name, own in tracked}
    beside = {"original": answers.original, "reference": answers.retrained}
    scores = {}
    for name, own in found.items():
        others = {field: a.name for field, a in beside.items() if a is not None and a.name != name}
        scores[name] = dict(table.scores[name]) | {
            key: score.model_copy(update={field: found[other][key].value for field, other in others.items()})
            for key, score in own.items()
        }
    return dataclasses.replace(table, scores=scores)


def canary_checks(scores: Mapping[str, Score], control: Sequence[Check] | None = None) -> tuple[Check, ...]:
    """Return one check for each question about canaries: does the score lie where an ignorant model scores?

    Its band is known without any retrained model, so that it is judged at every level of evidence.

    Args:
        scores: Of the candidate, or as a control of the original.
        control: The checks of the original's scores; None for those themselves.
    """
    found = tuple(_check(q, scores[q.measure]) for q in OF_CANARIES)
    if control is None:
        return found
    told = {c.key: c.outcome == "differs" for c in control}
    return tuple(weighed(c, told[c.key]) for c in found)


def _check(q: Question, score: Score) -> Check:
    if score.value is None or score.floor_low is None or score.floor_high is None:
        return Check(key=q.key, question=q.question, outcome="not assessed", finding=score.why, measure=q.measure)

    def show(value: float) -> str:
        return f"{value:.2f}"

    band = f"{show(score.floor_low)} to {show(score.floor_high)}"
    text = f"{show(score.value)}, a model that never saw them {band} ({score.why})"
    return sided(q, score, text, (score.floor_low, score.floor_high), show)


def canaries_instead(records: Records) -> str:
    """Return what canaries would do for a request of items that names none; empty for other requests."""
    request = records.split.request
    assert request is not None
    if records.by_class or request.canaries:
        return ""
    if len(records.split.canaries_left):
        return "a request that names the canaries of training, too (--with-canaries)"
    return "canaries in the next training (efface train --canaries 20), which a request can name"


def about_the_records(answers: AllAnswers, table: Table, records: Records) -> str:
    """Return what can be said of the records asked for themselves, canaries apart: how many the original memorised.

    One counts as memorised if the original's margin lies further from retrained models' than any record of one more
    retrained model would.

    Args:
        answers: Of all models.
        table: Of the audit.
        records: What they were asked.

    Returns:
        One sentence; empty for classes, and below level c without canaries.
    """
    canaries = int((records.parts["forget"].indices >= records.split.data.own_size).sum())
    band = table.floors.band(EXPOSURE.key, records.simultaneous_confidence).high
    others = [a.margin("forget") for a in answers.everyone]
    if records.by_class or len(others) <= LEAST or not np.isfinite(band):
        if records.by_class or not canaries:
            return ""
        return (
            f"What is said here rests on the {canaries} canaries; whether the original had memorised the other records "
            "asked for takes four retrained models or more to say."
        )
    z, _, _ = deviations(answers.original.margin("forget"), torch.stack(others))
    own = torch.from_numpy(records.parts["forget"].indices < records.split.data.own_size)
    n, known = int(own.sum()), int((z[own].abs() > band).sum())
    asked = counted(n, "record")
    if known:
        return (
            f"Of the {asked} asked for, {known} {'stands' if known == 1 else 'stand'} out in the original as memorised."
        )
    if canaries:
        return (
            f"Of the {asked} asked for themselves, none stands out in the original: nothing about them could be "
            f"told from it, and what is said here rests on the {canaries} canaries, which show how this model treats "
            "what it had memorised."
        )
    return f"Of the {asked} asked for, none stands out in the original as memorised."
