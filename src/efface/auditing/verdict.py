"""The verdict: two-sided, in plain language, never above its level of evidence; what is missing never passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from efface.auditing.questions import MEANING
from efface.auditing.result import Check, Outcome, Verdict
from efface.auditing.rows import Level

__all__ = ["LEVELS", "LIMITS", "conclude"]


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
