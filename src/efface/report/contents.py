"""What a report holds: its sections, four key numbers, the columns of the main table, what was not assessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from efface import words
from efface.artifact.record import Record
from efface.auditing.catalogue import Measure
from efface.auditing.checks import Check
from efface.auditing.result import Audit, RowScores
from efface.auditing.scores.score import Score

__all__ = [
    "SECTIONS",
    "KeyNumber",
    "Strip",
    "breaks",
    "columns",
    "group_measures",
    "key_numbers",
    "not_assessed",
    "sequence",
    "sequence_lede",
]

SECTIONS = {
    "sequence": "Every request so far",
    "checks": "What the verdict rests on",
    "officer": "For the privacy officer",
    "models": "All models side by side",
    "utility": "Usefulness, class by class",
    "attacks": "Attacks",
    "inside": "What is left inside",
    "records": "Most exposed records",
    "cost": "Cost",
    "how": "How it was done",
    "limits": "What was not shown",
}
"""Sections by id, in order; Markdown has the same. The first only where every request was asked about."""


@dataclass(frozen=True)
class Strip:
    """Where values lie on a scale, in percent of its length; None for what is unknown.

    Attributes:
        value: The candidate.
        low: Lower end of its interval.
        high: Upper end.
        floor_low: Lower end of where another retrained model would lie.
        floor_high: Upper end.
        original: The original model.
        reference: The retrained model.
        top: The value at the right end of the scale; the left end is 0.
    """

    value: float
    low: float | None
    high: float | None
    floor_low: float | None
    floor_high: float | None
    original: float | None
    reference: float | None
    top: float


@dataclass(frozen=True)
class KeyNumber:
    """One of the four numbers of the first screen.

    Attributes:
        question: What it answers, in plain language.
        measure: Which score it is.
        score: The candidate's.
        strip: Where it lies beside the others; None when not assessed.
        check: The verdict's check that rests on it, if any.
    """

    question: str
    measure: Measure
    score: Score
    strip: Strip | None
    check: Check | None


_QUESTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Is it still recognised?": (("test_forget_accuracy", "forget_accuracy"), ()),
    "Does everything else still work?": (("test_accuracy", "retain_accuracy"), ()),
    "Can an attacker tell?": (("lira_accuracy", "rmia_auc", "population_auc"), ("membership", "ensembles")),
    "Is it gone, or only hidden?": (("probe_recall_few", "probe_recall", "ain"), ("features", "relearning")),
}
"""Questions with the scores that answer them, and the groups in which a check's score is preferred to these."""


def key_numbers(audit: Audit) -> tuple[KeyNumber, ...]:
    """Return the four numbers of the first screen: recognition, utility, attack, what is left inside.

    For each question, a score on which a check found a difference comes first (the worst news is on the first screen),
    then one on which another check rests, then any measured one.
    """
    row = audit.row(audit.candidate)
    checks = {check.measure: check for check in audit.verdict.checks}
    rank = _ranks(audit)
    found = []
    for question, (keys, groups) in _QUESTIONS.items():
        rests = [k for k in checks if k in audit.measures and audit.measures[k].group in groups]
        known = [k for k in dict.fromkeys([*keys, *rests]) if k in row.scores and k in audit.measures]
        if not audit.forget_classes:  # no class is forgotten, so these compare unrelated things
            known = [k for k in known if k != "test_forget_accuracy" and audit.measures[k].group != "features"]
        known.sort(key=lambda k: (not row[k].measured, rank.get(k, 3)))
        if known:
            measure, score = audit.measures[known[0]], row[known[0]]
            found.append(KeyNumber(question, measure, score, _strip(score, measure), checks.get(known[0])))
    return tuple(found)


def _ranks(audit: Audit) -> dict[str, int]:
    """By score: 0 if a check found a difference in it, 1 if it found none, 2 if it was not made."""
    order = ("differs", "alike", "not assessed")
    return {check.measure: order.index(check.outcome) for check in audit.verdict.checks}


def _strip(score: Score, measure: Measure) -> Strip | None:
    if score.value is None:
        return None
    sized = measure.scale == "size"  # only the size counts: the band around 0 begins at the left end
    floor_low = 0.0 if sized and score.floor_low is not None else score.floor_low
    ends = (score.low, score.high, floor_low, score.floor_high, score.original, score.reference)
    known = [score.value, *(e for e in ends if e is not None)]
    top = 1.0 if measure.unit == "share" else 1.1 * max([*(abs(k) if sized else k for k in known), 1e-12])

    def place(value: float | None) -> float | None:
        if value is None:
            return None
        return round(100 * min(max((abs(value) if sized else value) / top, 0.0), 1.0), 2)

    return Strip(
        value=place(score.value) or 0.0,
        low=place(score.low),
        high=place(score.high),
        floor_low=place(floor_low),
        floor_high=place(score.floor_high),
        original=place(score.original),
        reference=place(score.reference),
        top=top,
    )


_COLUMNS: tuple[dict[str, str], ...] = (
    {"retain_accuracy": "Kept training data"},
    {"forget_accuracy": "Forget data"},
    {"test_accuracy": "Test data"},
    {"test_forget_accuracy": "Test, forgotten classes"},
    {
        "rmia_auc": "Attack (RMIA, AUC)",
        "population_auc": "Attack (AUC)",
        "forget_shift": "Margins above retrained (AUC)",
    },
    {"probe_recall_few": "Probe, few records", "probe_recall": "Probe"},
    {"relearn_steps": "Steps to relearn"},
    {"seconds": "Time"},
)


def columns(audit: Audit) -> dict[str, Measure]:
    """Return the scores of the main table by a short title, leaving out what no model was measured on."""
    chosen = {}
    rank = _ranks(audit)
    for titles in _COLUMNS:
        measured = [k for k in titles if k in audit.measures and _measured(audit.rows, k)]
        measured.sort(key=lambda k: rank.get(k, 3))
        chosen.update({titles[k]: audit.measures[k] for k in measured[:1]})
    if "Test, forgotten classes" in chosen and "Test data" in chosen:
        chosen = {"Test, kept classes" if k == "Test data" else k: m for k, m in chosen.items()}
    return chosen


def group_measures(audit: Audit, *groups: str) -> tuple[Measure, ...]:
    """Return the scores of some groups that any model was measured on."""
    return tuple(m for k, m in audit.measures.items() if m.group in groups and _measured(audit.rows, k))


def _measured(rows: Sequence[RowScores], key: str) -> bool:
    return any(key in row.scores and row[key].measured for row in rows)


def sequence(audit: Audit) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the table of every request so far, as text: its head, and a line for each."""
    head = ("Request", "Records", "Method", "Before all", "Just after", "Now", "Retrained", "Did it forget?", "Differs")
    rows = []
    for one in audit.sequence:
        shares = (one.original, one.then, one.now, one.retrained)
        rows.append(
            (
                f"{one.step}. {one.text}",
                words.count(one.records),
                one.method,
                *("–" if share is None else words.number(share, "share") for share in shares),
                one.answer,
                " ".join(one.differs) or "–",
            )
        )
    return head, rows


def sequence_lede(audit: Audit) -> str:
    """Return one sentence on all requests; empty where only one was asked about."""
    if not audit.sequence:
        return ""
    counts = Counter(one.answer for one in audit.sequence)
    said = "; ".join(f"{answer}: {n}" for answer, n in counts.items())
    return f"All {len(audit.sequence)} requests, asked about again on this model ({said})."


def not_assessed(audit: Audit) -> dict[str, tuple[str, ...]]:
    """Return what was not assessed on the candidate: titles of scores by the reason given."""
    found: dict[str, tuple[str, ...]] = {}
    for key, score in audit.row(audit.candidate).scores.items():
        if not score.measured:
            why = score.why or "no reason was recorded"
            title = audit.measures[key].title if key in audit.measures else key
            found[why] = (*found.get(why, ()), title)
    return found


def breaks(audit: Audit, record: Record) -> tuple[str, ...]:
    """Return what in a record does not fit the audit, or one step of it the next; empty if all fits."""
    found = []
    if record.data.fingerprint != audit.data_fingerprint:
        found.append("The record names other data than the audit used.")
    if record.request_fingerprint not in {None, audit.request_fingerprint}:
        found.append("The record's last request is not the one that was audited.")
    for number, step in enumerate(record.chain[1:], start=2):
        if step.parent and step.weights_before != step.parent.weights_after:
            found.append(f"Step {number} does not start from the weights that step {number - 1} ended with.")
    return tuple(found)
