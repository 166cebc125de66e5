"""The verdict in words: its headline, both answers in short, its checks in order, and what its level leaves open."""

from __future__ import annotations

from collections import Counter

from efface.auditing.checks import Check, Outcome
from efface.auditing.result import Audit

__all__ = ["LIMITS_LEDE", "checks_lede", "conclusion", "outcomes", "sorted_checks", "split_headline"]

LIMITS_LEDE = {
    "a": "No retrained model was at hand, so nothing here says how a model looks that never saw the data. These are "
    "sanity checks: they can find a failure, never confirm forgetting.",
    "b": "The candidate was compared with too few retrained models to know how much two of them differ among "
    "themselves. A stated tolerance stands in for that noise floor.",
    "c": "The candidate was compared with several retrained models. No finite number of them excludes every attack.",
}
"""What the level of evidence leaves open."""

ORDER: tuple[Outcome, ...] = ("differs", "not assessed", "alike")
"""Worst news first."""


def split_headline(audit: Audit) -> tuple[str, str]:
    """Return the verdict's first sentence in two pieces: what it says of the level of evidence, and the rest."""
    start = f"Level ({audit.verdict.level}), {audit.level_text}."
    headline = audit.verdict.headline
    return (start, headline.removeprefix(start).strip()) if headline.startswith(start) else ("", headline)


def sorted_checks(audit: Audit) -> tuple[Check, ...]:
    """Return the verdict's checks: those that found a difference first, then those not made."""
    return tuple(sorted(audit.verdict.checks, key=lambda check: ORDER.index(check.outcome)))


def outcomes(audit: Audit) -> dict[str, str]:
    """Return what each outcome of a check is called; without a retrained model nothing can be alike."""
    compared = audit.reference is not None
    return {
        "alike": "No difference found" if compared else "Nothing wrong found",
        "differs": "Differs" if compared else "Fails",
        "not assessed": "Not assessed",
    }


def conclusion(audit: Audit) -> str:
    """Return both verdicts in a few words: is it forgotten, and is it still useful?"""
    verdict = audit.verdict
    forgot = {
        "no difference found": "no difference from retraining found",
        "no": "no, nothing was done" if verdict.outcome == "nothing was done" else "no",
        "could not tell": "could not tell",
    }[verdict.answer]
    other = "a retrained model" if audit.reference is not None else "the original"
    useful = {
        "alike": f"as useful as {other}",
        "less": f"less than {other}",
        "more": f"more accurate than {other}",
        "could not tell": "could not tell",
    }[verdict.useful]
    return f"Did it forget? {forgot.capitalize()}. Is it still useful? {useful.capitalize()}."


def checks_lede(audit: Audit) -> str:
    """Return one sentence on how the checks came out."""
    names = outcomes(audit)
    counts = Counter(check.outcome for check in audit.verdict.checks)
    if not counts:
        return "No question was put to this model."
    said = "; ".join(f"{names[k].lower()}: {counts[k]}" for k in ORDER if counts[k])
    questions = "question" if counts.total() == 1 else "questions"
    return f"{counts.total()} {questions} ({said}). A difference counts on either side."
