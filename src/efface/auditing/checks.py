"""The checks of a verdict: each question's answer, from the scores of one model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from efface.auditing.catalogue import ALL
from efface.auditing.floors import Floors
from efface.auditing.measures.ain import FEW_STEPS
from efface.auditing.questions import MEANING, OF_METHODS, Direction, Question, asked
from efface.auditing.rows import Level
from efface.auditing.scores.score import Frozen, Number, Score
from efface.auditing.settings import AuditSettings

__all__ = [
    "ORIGINAL",
    "USEFULNESS",
    "Check",
    "Outcome",
    "Standard",
    "checks_against_floor",
    "checks_against_original",
    "not_assessed",
    "sided",
    "weighed",
]


ORIGINAL = "the original"

ROUNDING = 1e-12
"""What lies on the border passes: the ends of an interval are sums, so the last digit must not decide."""


USEFULNESS = ("test", "retain")
"""Keys of the checks about what the model is still good for."""

Outcome = Literal["alike", "differs", "not assessed"]


class Check(Frozen):
    """One question of the verdict.

    Attributes:
        key: A short name, unique within the verdict.
        question: The question, in plain language.
        outcome: `alike` (no difference from retraining was found), `differs`, or `not assessed`.
        finding: The answer, in one sentence, with the numbers.
        measure: The key of the score that it rests on.
        direction: Which side a difference lies on.
        told: Whether this question tells the original from a retrained model (one about the head: the original with its
            head meddled with). Where it does not, an answer that is alike says nothing, and the outcome is
            `not assessed`. None where this was not asked.
        seen_below: Scores below this one would differ; None where no score that is possible would, or where unknown.
        seen_above: Scores above this one would differ.
    """

    key: str
    question: str
    outcome: Outcome
    finding: str
    measure: str
    direction: Literal["", "left", "over", "worse", "better", "unlike"] = ""
    told: bool | None = None
    seen_below: Number = None
    seen_above: Number = None


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


def checks_against_floor(
    scores: Mapping[str, Score],
    standard: Standard,
    *,
    by_class: bool,
    control: Sequence[Check] | None = None,
) -> tuple[Check, ...]:
    """Return one check per question: does the candidate differ from the retrained model beyond noise?

    Level c: it differs if its score lies outside the interval in which a further retrained model would fall *and* its
    gap to the retrained model is more than sampling of records explains. Level b: if the gap's whole interval lies
    beyond +-tolerance, a stated stand-in for the unknown floor. A question about forgetting that does not tell the
    original from the retrained model by itself is not assessed where it finds no difference.

    Args:
        scores: The candidate's.
        standard: What they are judged by.
        by_class: Whether whole classes were forgotten.
        control: The checks of the original's scores; None for those themselves.
    """
    kinds = {"ain": _relearning, "exposure": _single, "exposure_ratio": _single}
    questions = [
        q._replace(measure=q.at_b) if q.at_b and standard.level == "b" else q for q in asked(by_class=by_class)
    ]
    found = [kinds.get(q.measure, _compared)(q, scores, standard) for q in questions]
    if control is not None:
        told = {c.key: c.outcome == "differs" for c in control}
        found = [c if c.key in USEFULNESS else weighed(c, told[c.key]) for c in found]
    found += [_of_method(q, scores[q.measure]) for q in OF_METHODS if scores[q.measure].measured]
    return tuple(found)


def not_assessed(checks: Iterable[Check], why: str) -> tuple[Check, ...]:
    """Return the checks without their answers.

    Args:
        checks: As made.
        why: Why they do not count.
    """
    empty = {"outcome": "not assessed", "finding": why, "direction": "", "told": None}
    return tuple(c.model_copy(update=empty) for c in checks)


def weighed(check: Check, told: bool, what: str = ORIGINAL) -> Check:
    """Return a check, not assessed where it finds no difference and would find none in the original.

    Args:
        check: Of the candidate.
        told: Whether the same question tells the original from a retrained model, or what else it has to tell.
        what: What passes as well where it does not.
    """
    if told or check.outcome != "alike":
        return check.model_copy(update={"told": told})
    finding = f"cannot tell here: {what} passes as well; {check.finding}"
    return check.model_copy(update={"told": False, "outcome": "not assessed", "finding": finding})


def _check(q: Question, outcome: Outcome, finding: str, direction: Direction = "") -> Check:
    if direction:
        finding += f"; {MEANING[direction]}"
    return Check(
        key=q.key, question=q.question, outcome=outcome, finding=finding, measure=q.measure, direction=direction
    )


def sided(q: Question, score: Score, text: str, passes: tuple[float, float], show: Callable[[float], str]) -> Check:
    """Return the check of a score by the interval in which it passes; where that holds all it can be, it tells nothing.

    Args:
        q: The question.
        score: The candidate's.
        text: What was found.
        passes: Where a score passes.
        show: How a score is printed.
    """
    assert score.value is not None
    low, high = passes
    least, most = ALL[q.measure].ends
    below, above = bool(q.below) and low > least, bool(q.above) and high < most
    sides = [f"{word} {show(end)}" for word, end, open_ in (("below", low, below), ("above", high, above)) if open_]
    if not sides:
        found = _check(q, "not assessed", f"cannot tell here: {text}, and any score would pass as noise")
        return found.model_copy(update={"told": False})
    text += f"; a difference would show {' or '.join(sides)}"
    if below and score.value < low - ROUNDING:
        found = _check(q, "differs", text, q.below)
    elif above and score.value > high + ROUNDING:
        found = _check(q, "differs", text, q.above)
    else:
        found = _check(q, "alike", text)
    return found.model_copy(update={"seen_below": low if below else None, "seen_above": high if above else None})


def _compared(q: Question, scores: Mapping[str, Score], standard: Standard) -> Check:
    score = scores[q.measure]
    if score.value is None:
        return _check(q, "not assessed", score.why)
    if score.gap is None or score.gap_low is None or score.gap_high is None:
        return _check(q, "not assessed", "there is nothing to compare it with")
    show = _plain if q.tolerance == "separation_factor" else _percent
    expected = score.value - score.gap
    text = f"{show(score.value)}, expected {show(expected)}"
    if score.why and ALL[q.measure].group == "features":
        text += f" ({score.why})"
    # A score passes within the spread of retrained models (b: the tolerance), and within what the draw of records
    # explains: the two ends of the gap's interval, laid around what is expected.
    drawn = score.value - score.gap_high, score.value - score.gap_low
    if standard.level == "c":
        band = standard.floors.band(q.measure, standard.confidence)
        if not math.isfinite(band.high):
            return _check(q, "not assessed", f"{text}; its spread over retrained models is not known")
        text += f", one more retrained model {show(band.low)} to {show(band.high)}"
        passes = min(band.low, drawn[0]), max(band.high, drawn[1])
    else:
        allowed = q.allowed(standard.settings, score.reference)
        passes = drawn[0] - allowed, drawn[1] + allowed
    return sided(q, score, text, passes, show)


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
        passes = band.low, band.high
    else:
        factor = standard.settings.ain_factor
        text += f" (a factor of {factor:g} passes as noise)"
        known = steps.reference + FEW_STEPS
        passes = known / factor - FEW_STEPS, known * factor - FEW_STEPS
    if steps.bound and not ain.bound:
        return _check(q, "alike", f"neither it nor the retrained model relearned within {steps.value:g} steps")
    below, above = steps.value < passes[0], steps.value > passes[1]
    # A bound on the wrong side of the band says nothing.
    if (ain.bound == "at least" and not above) or (ain.bound == "at most" and not below):
        return _check(q, "not assessed", f"{text}; {ain.why}")
    return sided(q, steps, text, passes, "{:.0f} steps".format)


def _single(q: Question, scores: Mapping[str, Score], standard: Standard) -> Check:
    score = scores[q.measure]
    if score.value is None:
        return _check(q, "not assessed", score.why)
    if standard.level == "c":
        high = standard.floors.band(q.measure, standard.confidence).high
        if not math.isfinite(high):
            return _check(q, "not assessed", "its spread over retrained models is not known")
    else:
        high = q.allowed(standard.settings, None)
    return sided(q, score, f"{score.value:+.1f} ({score.why})", (-high, high), "{:+.1f}".format)


def _of_method(q: Question, score: Score) -> Check:
    if score.value is None or score.floor_low is None or score.floor_high is None:
        return _check(q, "not assessed", score.why or "the floor is not known")
    text = f"{score.value:.3f}, retrained against retrained {score.floor_low:.3f} to {score.floor_high:.3f}"
    return sided(q, score, text, (score.floor_low, score.floor_high), "{:.3f}".format)


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


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _plain(value: float) -> str:
    return f"{value:.2f}"
