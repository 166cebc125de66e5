"""The sealed part of an audit: questions that nothing which stops or chooses may read, asked where settings say so.

What a search has seen is used up: it finds what passes, not what forgot. Nothing in `efface.searching` imports this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from efface.auditing.answers import AllAnswers, Answers
from efface.auditing.checks import ORIGINAL, Check, weighed
from efface.auditing.questions import MEANING, SEALED, Question
from efface.auditing.records import Records
from efface.auditing.rows import Rows
from efface.auditing.scores.deeper import deeper_scores, path_scores
from efface.auditing.scores.looked import Looked, tampered_rows
from efface.auditing.scores.score import Score, Scores
from efface.auditing.table import Table

__all__ = ["SEED", "sealed_checks", "with_deeper"]

SEED = 1_000_003
"""What `efface audit --sealed` adds to its seed, so that no record is drawn as in any audit before."""


def with_deeper(table: Table, rows: Rows, answers: AllAnswers, records: Records, folder: Path | None = None) -> Table:
    """Return a table with the sealed questions' scores beside its own.

    Every retrained model is looked at once, and what was seen is kept.

    Args:
        table: Of the audit.
        rows: The models; the original's record says how it was trained.
        answers: Theirs.
        records: What they were asked.
        folder: Where to keep what was seen in further retrained models; None looks again.
    """
    record = rows.original.record
    recipe = None if record is None else record.recipe
    everyone = records.run.track(answers.everyone, "audit: sealed questions, retrained", len(answers.everyone))
    seen = {id(a): Looked.at(a, recipe, None if a is answers.retrained else folder) for a in everyone}
    original = Looked.at(answers.original, recipe)
    found: dict[str, Scores] = {}
    for name, own in records.run.track(answers.table.items(), "audit: sealed questions", len(answers.table)):
        mine = original if own is answers.original else seen.get(id(own)) or Looked.at(own, recipe)
        others = [looked for looked in seen.values() if looked is not mine]
        deeper = deeper_scores(mine, others, original, records.simultaneous_confidence, items=not records.by_class)
        found[name] = deeper | path_scores(own, answers.original)
    scores = {name: {**table.scores[name], **_beside(name, found, answers)} for name in found}
    return dataclasses.replace(table, scores=scores, meddled=_meddled(original, seen.values(), answers))


def _meddled(original: Looked, others: Iterable[Looked], answers: AllAnswers) -> Scores:
    """Return the scores of the questions about the head, had the original's rows been meddled with."""
    keys = [q.measure for q in SEALED if q.meddled]
    if not answers.original.records.by_class or set(original.missing) & {"bias", "norm"} == {"bias", "norm"}:
        return {}
    rows = {k: v for k, v in tampered_rows(answers.original).items() if k in original.found}
    made = dataclasses.replace(original, found=original.found | rows)
    found = deeper_scores(made, list(others), original, answers.original.records.simultaneous_confidence)
    return {key: found[key] for key in keys}


def _beside(name: str, found: Mapping[str, Scores], answers: AllAnswers) -> Scores:
    """Put the original's and the retrained model's value beside each score."""
    rows: dict[str, Answers | None] = {"original": answers.original, "reference": answers.retrained}
    beside = {field: a.name for field, a in rows.items() if a is not None and a.name != name}
    return {
        key: score.model_copy(update={field: found[other][key].value for field, other in beside.items()})
        for key, score in found[name].items()
    }


def sealed_checks(
    scores: Mapping[str, Score], *, by_class: bool, control: Sequence[Check] | None = None
) -> tuple[Check, ...]:
    """Return one check per sealed question: does the score lie where one more retrained model would score?

    Args:
        scores: Of the candidate, or as a control of the original.
        by_class: Whether whole classes were forgotten.
        control: The checks of the original's scores, of its head meddled with where a question is about that; None for
            those themselves.
    """
    asked = [q for q in SEALED if by_class or q.target == "both"]
    found = tuple(_check(q, scores[q.measure]) for q in asked)
    if control is None:
        return found
    told = {c.key: c.outcome == "differs" for c in control}
    return tuple(weighed(c, told[q.key], q.meddled or ORIGINAL) for q, c in zip(asked, found, strict=True))


def _check(q: Question, score: Score) -> Check:
    made = Check(key=q.key, question=q.question, outcome="not assessed", finding=score.why, measure=q.measure)
    if score.value is None or score.floor_low is None or score.floor_high is None:
        return made
    text = f"{score.value:.3g}, one more retrained model {score.floor_low:.3g} to {score.floor_high:.3g}"
    text += f" ({score.why})" if score.why else ""
    ends = {"seen_below": score.floor_low if q.below else None, "seen_above": score.floor_high if q.above else None}
    made = made.model_copy(update=ends)
    below, above = bool(q.below) and score.value < score.floor_low, bool(q.above) and score.value > score.floor_high
    if not (below or above):
        return made.model_copy(update={"outcome": "alike", "finding": text})
    side = q.below if below else q.above
    return made.model_copy(update={"outcome": "differs", "finding": f"{text}; {MEANING[side]}", "direction": side})
