"""The checks of a verdict: each question's answer, from the scores of one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from efface.auditing.floors import Floors
from efface.auditing.measures.ain import FEW_STEPS
from efface.auditing.questions import MEANING, OF_METHODS, Direction, Question, asked
from efface.auditing.result import Check, Outcome
from efface.auditing.rows import Level
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings

__all__ = ["Standard", "checks_against_floor", "checks_against_original"]


class Standard(NamedTuple):
    """What a check is judged by.

    Attributes:
        level: b or c.
        floors: Of retrained models.
        settings: Tolerances.
        confidence: Of a single check.
    """

    level: Level
    floors: Floors
    settings: AuditSettings
    confidence: float


def checks_against_floor(scores: Mapping[str, Score], standard: Standard, *, by_class: bool) -> tuple[Check, ...]:
    """Return one check per question: does the candidate differ from the retrained model beyond noise?

    Level c: it differs if its score lies outside the interval in which a further retrained model would fall *and* its
    gap to the retrained model is more than sampling of records explains. Level b: if the gap's whole interval lies
    beyond +-tolerance, a stated stand-in for the unknown floor.

    Args:
        scores: The candidate's.
        standard: What they are judged by.
        by_class: Whether whole classes were forgotten.
    """
    found = [(_relearning if q.measure == "ain" else _compared)(q, scores, standard) for q in asked(by_class=by_class)]
    found += [_of_method(q, scores[q.measure]) for q in OF_METHODS if scores[q.measure].measured]
    return tuple(found)


def _check(q: Question, outcome: Outcome, finding: str, direction: Direction = "") -> Check:
    if direction:
        finding += f"; {MEANING[direction]}"
    return Check(
        key=q.key, question=q.question, outcome=outcome, finding=finding, measure=q.measure, direction=direction
    )


def _sided(q: Question, text: str, *, below: bool, above: bool) -> Check:
    if below or above:
        return _check(q, "differs", text, q.below if below else q.above)
    return _check(q, "alike", text)


def _compared(q: Question, scores: Mapping[str, Score], standard: Standard) -> Check:
    score = scores[q.measure]
    if score.value is None:
        return _check(q, "not assessed", score.why)
    if score.gap is None or score.gap_low is None or score.gap_high is None:
        return _check(q, "not assessed", "there is nothing to compare it with")
    show, gap = (_plain, _plain) if q.tolerance == "separation_factor" else (_percent, _points)
    text = f"{show(score.value)}, expected {show(score.value - score.gap)}"
    if standard.level == "c":
        band = standard.floors.band(q.measure, standard.confidence)
        if not math.isfinite(band.high):
            return _check(q, "not assessed", f"{text}; its spread over retrained models is not known")
        text += f", one more retrained model {show(band.low)} to {show(band.high)}"
        above = score.value > band.high and score.gap_low > 0
        below = score.value < band.low and score.gap_high < 0
    else:
        allowed = q.allowed(standard.settings, score.reference)
        text += f"; gap {gap(score.gap_low)} to {gap(score.gap_high)}, up to {gap(allowed)} passes as noise"
        above, below = score.gap_low > allowed, score.gap_high < -allowed
    return _sided(q, text, below=below, above=above)


def _relearning(q: Question, scores: Mapping[str, Score], standard: Standard) -> Check:
    ain, steps = scores[q.measure], scores["relearn_steps"]
    if steps.value is None or steps.reference is None:
        return _check(q, "not assessed", steps.why or ain.why)
    text = f"{steps.value:g} steps against the retrained model's {steps.reference:g}"
    if standard.level == "c":
        band = standard.floors.band("relearn_steps", standard.confidence)
        if not math.isfinite(band.high):
            return _check(q, "not assessed", f"{text}; its spread over retrained models is not known")
        text += f", further retrained models {band.low:.0f} to {band.high:.0f}"
        below, above = steps.value < band.low, steps.value > band.high
    else:
        factor = standard.settings.ain_factor
        text += f" (a factor of {factor:g} passes as noise)"
        ratio = (steps.value + FEW_STEPS) / (steps.reference + FEW_STEPS)
        below, above = ratio < 1 / factor, ratio > factor
    if steps.bound and not ain.bound:
        return _check(q, "alike", f"neither it nor the retrained model relearned within {steps.value:g} steps")
    # A bound on the wrong side of the band says nothing.
    if (ain.bound == "at least" and not above) or (ain.bound == "at most" and not below):
        return _check(q, "not assessed", f"{text}; {ain.why}")
    return _sided(q, text, below=below, above=above)


def _of_method(q: Question, score: Score) -> Check:
    if score.value is None or score.floor_low is None or score.floor_high is None:
        return _check(q, "not assessed", score.why or "the floor is not known")
    text = f"{score.value:.3f}, retrained against retrained {score.floor_low:.3f} to {score.floor_high:.3f}"
    below, above = bool(q.below) and score.value < score.floor_low, bool(q.above) and score.value > score.floor_high
    return _sided(q, text, below=below, above=above)


def checks_against_original(
    scores: Mapping[str, Score], settings: AuditSettings, *, by_class: bool
) -> tuple[Check, ...]:
    """Return the sanity checks that need no retrained model (level a).

    A model retrained without a class never answers it, and a good one is not much less accurate than the original.

    Args:
        scores: The candidate's.
        settings: Tolerances.
        by_class: Whether whole classes were forgotten.
    """
    found = []
    for q in asked(by_class=by_class):
        score = scores[q.measure]
        if q.key in {"test", "retain"} and score.value is not None and score.original is not None:
            text = f"{_percent(score.value)} against the original's {_percent(score.original)}"
            lost = score.high is not None and score.high < score.original - settings.tolerance
            found.append(_check(q, "differs" if lost else "alike", text, "worse" if lost else ""))
        elif q.key in {"forget", "forget-test"} and by_class and score.value is not None:
            text = f"{_percent(score.value)}; a model that never saw the classes never answers them"
            known = score.low is not None and score.low > settings.tolerance
            found.append(_check(q, "differs" if known else "alike", text, "left" if known else ""))
        else:
            found.append(_check(q, "not assessed", score.why or "only a retrained model shows what is normal"))
    return tuple(found)


def _percent(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _plain(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.2f}"
