"""The verdict: two-sided, in plain language, never above its level of evidence; what is missing never passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from efface.auditing.floors import Floors
from efface.auditing.questions import FEW_STEPS, MEANING, Direction, Question, asked
from efface.auditing.result import Check, Level, Outcome, Verdict
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings

__all__ = ["LEVELS", "LIMITS", "checks_against_floor", "checks_against_original", "conclude"]

LEVELS: dict[Level, str] = {
    "a": "no retrained model to compare with: sanity checks only",
    "b": "compared with one retrained model: how much retrained models differ among themselves is not known",
    "c": "compared with several retrained models: every difference is judged against theirs",
}

LIMITS = (
    "This is evidence of diligence, not proof: the same weights can come from different data (arXiv 2110.11891), and "
    "a dishonest provider can pass checks of a model's answers.",
    "Attacks that were not made may succeed where these failed; one threshold for all records is a weak attack.",
    "A difference smaller than the stated intervals and floors cannot be seen here.",
)


def checks_against_floor(
    scores: Mapping[str, Score], floors: Floors, settings: AuditSettings, *, by_class: bool, level: Level, strict: float
) -> tuple[Check, ...]:
    """Return one check per question: does the candidate differ from the retrained model beyond noise?

    Level c: it differs if its score lies outside the interval in which a further retrained model would fall *and* its
    gap to the retrained model is more than sampling of records explains. Level b: if the gap's whole interval lies
    beyond +-tolerance, a stated stand-in for the unknown floor.

    Args:
        scores: The candidate's.
        floors: Of retrained models.
        settings: Tolerances.
        by_class: Whether whole classes were forgotten.
        level: b or c.
        strict: Confidence of a single check.
    """
    found = []
    for q in asked(by_class=by_class):
        score = scores[q.measure]
        if q.measure == "ain":
            found.append(_relearning(q, scores, floors, settings, level, strict))
        elif score.value is None:
            found.append(_check(q, "not assessed", score.why))
        elif score.gap is None or score.gap_low is None or score.gap_high is None:
            found.append(_check(q, "not assessed", "there is nothing to compare it with"))
        else:
            found.append(_compared(q, score, score.gap_low, score.gap_high, floors, settings, level, strict))
    many = ("lira_accuracy", "quality", "klom_forget", "thirds_accuracy")
    found += [_ensemble(scores, key) for key in many if scores[key].measured]
    return tuple(found)


def _check(q: Question, outcome: Outcome, finding: str, direction: Direction = "") -> Check:
    if direction:
        finding += f"; {MEANING[direction]}"
    return Check(
        key=q.key, question=q.question, outcome=outcome, finding=finding, measure=q.measure, direction=direction
    )


def _compared(
    q: Question,
    score: Score,
    low: float,
    high: float,
    floors: Floors,
    settings: AuditSettings,
    level: Level,
    strict: float,
) -> Check:
    assert score.value is not None
    show, gap = (_plain, _plain) if q.measure == "separation" else (_percent, _points)
    expected = score.value - score.gap if score.gap is not None else score.reference
    text = f"{show(score.value)}, expected {show(expected)}"
    if level == "c":
        band = floors.band(q.measure, strict)
        if not math.isfinite(band.high):
            return _check(q, "not assessed", f"{text}; its spread over retrained models is not known")
        text += f", one more retrained model {show(band.low)} to {show(band.high)}"
        above = score.value > band.high and low > 0
        below = score.value < band.low and high < 0
    else:
        allowed = settings.tolerance_of(q.measure, score.reference)
        text += f"; gap {gap(low)} to {gap(high)}, up to {gap(allowed)} passes as noise"
        above, below = low > allowed, high < -allowed
    if above or below:
        return _check(q, "differs", text, q.above if above else q.below)
    return _check(q, "alike", text)


def _relearning(
    q: Question, scores: Mapping[str, Score], floors: Floors, settings: AuditSettings, level: Level, strict: float
) -> Check:
    bounds, steps = scores["ain"].why, scores["relearn_steps"]
    if steps.value is None or steps.reference is None:
        return _check(q, "not assessed", steps.why or scores["ain"].why)
    text = f"{steps.value:g} steps against the retrained model's {steps.reference:g}"
    if level == "c":
        band = floors.band("relearn_steps", strict)
        if not math.isfinite(band.high):
            return _check(q, "not assessed", f"{text}; its spread over retrained models is not known")
        text += f", further retrained models {band.low:.0f} to {band.high:.0f}"
        below, above = steps.value < band.low, steps.value > band.high
    else:
        text += f" (a factor of {settings.ain_factor:g} passes as noise)"
        # A few steps more or less say nothing where a model needs only a few.
        ratio = (steps.value + FEW_STEPS) / (steps.reference + FEW_STEPS)
        below, above = ratio < 1 / settings.ain_factor, ratio > settings.ain_factor
    if "at least" in bounds and "at most" in bounds:
        return _check(q, "alike", f"neither it nor the retrained model relearned within {steps.value:g} steps")
    # A bound on the wrong side of the band says nothing.
    if ("at least" in bounds and not above) or ("at most" in bounds and not below):
        return _check(q, "not assessed", f"{text}; {bounds}")
    if below or above:
        return _check(q, "differs", text, q.below if below else q.above)
    return _check(q, "alike", text)


def _ensemble(scores: Mapping[str, Score], key: str) -> Check:
    score = scores[key]
    words = {
        "lira_accuracy": "Can an attacker with many models tell unlearned from retrained, record by record (U-LiRA)?",
        "thirds_accuracy": "Can it tell unlearned from never seen records, with shadow models of its own (RULI)?",
        "quality": "Does any attack per record tell them apart (forgetting quality F)?",
        "klom_forget": "Are the margins distributed as those of retrained models (KLoM)?",
    }
    q = Question(key.replace("_", "-"), key, words[key], "unlike", "unlike")
    if score.value is None or score.floor_low is None or score.floor_high is None:
        return _check(q, "not assessed", score.why or "the floor is not known")
    text = f"{score.value:.3f}, retrained against retrained {score.floor_low:.3f} to {score.floor_high:.3f}"
    worse = score.value < score.floor_low if key == "quality" else score.value > score.floor_high
    return _check(q, "differs" if worse else "alike", text, "unlike" if worse else "")


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


def conclude(level: Level, candidate: str, checks: Sequence[Check], control: Sequence[Check] | None = None) -> Verdict:
    """Put the checks together.

    Args:
        level: Of evidence.
        candidate: What is judged.
        checks: From `checks_against_floor` or `checks_against_original`.
        control: The same checks made on the original model, which has forgotten nothing.

    Returns:
        `differs` if any check does; `alike` only above level a, if every check was made and the control shows that
        they can find a difference; else `not assessed`.
    """
    differing = [c for c in checks if c.outcome == "differs"]
    missing = [c for c in checks if c.outcome == "not assessed"]
    telling = None if control is None else [c.key for c in control if c.outcome == "differs"]
    outcome: Outcome
    if differing:
        outcome = "differs"
        kinds = [d for d in ("left", "over", "worse", "unlike", "better") if any(c.direction == d for c in differing)]
        found = "; ".join(MEANING[d] for d in kinds)  # type: ignore[index]
        than = "what it should be" if level == "a" else "a model retrained without the data"
        headline = f"{candidate!r} differs from {than}: {found}."
    elif level == "a":
        outcome = "not assessed"
        headline = f"Whether {candidate!r} has forgotten was not assessed; the sanity checks found nothing wrong."
    elif missing:
        outcome = "not assessed"
        headline = (
            f"No difference was found between {candidate!r} and retraining in what was measured, but "
            f"{len(missing)} of {len(checks)} questions were not assessed."
        )
    elif telling == []:
        outcome = "not assessed"
        headline = (
            f"No difference was found between {candidate!r} and a model retrained without the data, but none is found "
            "for the original either: these checks cannot tell here whether anything was forgotten."
        )
    else:
        outcome = "alike"
        headline = f"No difference was found between {candidate!r} and a model retrained without the data."
    return Verdict(
        level=level,
        outcome=outcome,
        headline=f"Level ({level}), {LEVELS[level]}. {headline}",
        sentences=tuple(_sentences(level, checks, telling)),
        checks=tuple(checks),
        control=None if telling is None else bool(telling),
    )


def _sentences(level: Level, checks: Sequence[Check], telling: Sequence[str] | None) -> Iterator[str]:
    yield from (f"{c.question} {c.finding}." for c in checks if c.outcome == "differs")
    alike = [c.key for c in checks if c.outcome == "alike"]
    if alike and level != "a":
        yield f"No difference in: {', '.join(alike)}."
    if telling:
        yield f"The same checks tell the original from the retrained model by: {', '.join(telling)}."
    yield from (f"Not assessed: {c.question} ({c.finding})" for c in checks if c.outcome == "not assessed")


def _percent(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _plain(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.2f}"
