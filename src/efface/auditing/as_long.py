"""Where a model stands to retraining for as long: a method that is not above it has no use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from efface.auditing.answers import AllAnswers
from efface.auditing.checks import USEFULNESS, Check
from efface.auditing.measures.intervals import paired_gap
from efface.auditing.rows import AS_LONG, Row, Rows
from efface.auditing.scores.score import Frozen, Number

__all__ = ["AsLong", "Standing", "standing"]

Standing = Literal["above", "below", "level", "mixed"]

MEANING: dict[Standing, str] = {
    "above": "This model is above that row.",
    "below": "This model is below that row: training anew for the same time gives more.",
    "level": "No difference was found between the two: training anew for the same time gives as much.",
    "mixed": "Each is better in one of the two.",
}

WORDS = {1: "better", 0: "no different", -1: "worse"}


class AsLong(Frozen):
    """Where the candidate stands to a model retrained for as long as its forgetting took.

    Attributes:
        row: Name of that model's row.
        outcome: `above`: better in usefulness or forgetting and not worse in the other; `below`: the reverse; `level`:
            no difference found; `mixed`: each is better in one.
        seconds: How long that retraining took itself.
        kept_gap: The candidate's accuracy on kept test records less that row's.
        kept_low: Lower end of its interval, paired by records.
        kept_high: Upper end.
        asked: Questions about forgetting that both models have an answer to.
        differs: How many of them differ for the candidate.
        differs_there: How many differ for that row.
        text: The same in words.
    """

    row: str
    outcome: Standing
    seconds: Number = None
    kept_gap: float
    kept_low: float
    kept_high: float
    asked: int
    differs: int
    differs_there: int
    text: str


def standing(
    rows: Rows, answers: AllAnswers, checks: Sequence[Check], theirs: Sequence[Check], confidence: float
) -> AsLong:
    """Compare the candidate with the model that was retrained for as long as forgetting took.

    Usefulness is accuracy on kept test records: a difference counts if the interval of the paired gap leaves out 0.
    Forgetting is the number of questions about it that differ, of those that both models have an answer to. Above:
    better in one and not worse in the other.

    Args:
        rows: With such a row.
        answers: Of all models.
        checks: The candidate's.
        theirs: The same questions, asked of that row.
        confidence: Of the interval.
    """
    own, other, row = answers.candidate, answers.table[AS_LONG], rows[AS_LONG]
    gap = paired_gap(own.correct("test_retain"), other.correct("test_retain"), confidence)
    there = {c.key: c.outcome for c in theirs if c.outcome != "not assessed"}
    asked = [c for c in checks if c.key not in USEFULNESS and c.key in there and c.outcome != "not assessed"]
    ours, others = sum(c.outcome == "differs" for c in asked), sum(there[c.key] == "differs" for c in asked)
    useful = int(gap.low > 0) - int(gap.high < 0)
    forgot = int(ours < others) - int(ours > others)
    outcome = _outcome(useful, forgot)
    text = (
        f"Retraining for as long as forgetting took ({_how_long(row)}) keeps {other.accuracy('test_retain'):.1%} of "
        f"test accuracy and this model {own.accuracy('test_retain'):.1%}: {WORDS[useful]} "
        f"({100 * gap.value:+.1f} points, {100 * gap.low:+.1f} to {100 * gap.high:+.1f}). Of {len(asked)} questions "
        f"about forgetting that both answer, {others} found a difference there and {ours} here: {WORDS[forgot]}. "
        f"{MEANING[outcome]}"
    )
    return AsLong(
        row=row.name,
        outcome=outcome,
        seconds=row.seconds,
        kept_gap=gap.value,
        kept_low=gap.low,
        kept_high=gap.high,
        asked=len(asked),
        differs=ours,
        differs_there=others,
        text=text,
    )


def _outcome(useful: int, forgot: int) -> Standing:
    """Return where the candidate stands, from 1 (better), 0 or -1 (worse) in usefulness and in forgetting."""
    if useful * forgot < 0:
        return "mixed"
    return "level" if useful == forgot == 0 else "above" if useful + forgot > 0 else "below"


def _how_long(row: Row) -> str:
    seconds = "time not known" if row.seconds is None else f"{row.seconds:.3g} s"
    return seconds if row.record is None else f"{seconds}, {sum(r.epochs for r in row.record.trainings):.3g} epochs"
