"""The page: a self-contained HTML document that a colleague, an auditor or a reviewer can read and print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from efface import __version__
from efface.artifact.record import Record
from efface.auditing.catalogue import Measure
from efface.auditing.checks import Check, Outcome
from efface.auditing.result import Audit
from efface.auditing.scores.score import Score
from efface.data import Counts
from efface.report import format as words
from efface.report.closing import answers
from efface.report.contents import (
    breaks,
    columns,
    group_measures,
    key_numbers,
    not_assessed,
    sequence,
    sequence_lede,
)
from efface.report.figures.audit import illustrations
from efface.report.officer import for_the_officer, when
from efface.report.sharing import shareable
from efface.report.templates import environment

__all__ = ["Step", "asked", "audited", "history_of", "html", "split_headline"]

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

LISTED = 20
"""Names of records that the page lists; record.json has all."""

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


@dataclass(frozen=True)
class Step:
    """One record of the chain, in words.

    Attributes:
        title: What was done.
        facts: What a reader wants first.
        details: Every hyper-parameter, the recipe and the hashes.
    """

    title: str
    facts: dict[str, str]
    details: dict[str, str]


def html(audit: Audit, record: Record | None = None, *, share: bool = False) -> str:
    """Return the page: inline style and figures, no script, nothing fetched; every value from outside is escaped.

    Args:
        audit: What was measured.
        record: How the candidate came to be, with what it was made from; None if that is not known.
        share: Leave out single records and who asked; see `efface.report.sharing.shareable`.
    """
    if share:
        audit, record = shareable(audit, record)
    templates = environment("report")
    templates.filters |= {
        "count": words.count,
        "floor": words.floor,
        "good": words.good,
        "interval": _interval,
        "number": words.number,
        "sentence": words.sentence,
        "value": words.value,
    }
    level, statement = split_headline(audit)
    candidate = audit.row(audit.candidate)
    return templates.get_template("report.html.jinja").render(
        answers=answers(audit, record),
        audit=audit,
        asked=asked(audit, record),
        audited=audited(audit),
        candidate=candidate,
        chain=history_of(record),
        checks=sorted_checks(audit),
        checks_lede=checks_lede(audit),
        columns=columns(audit),
        evidence=level,
        figures=illustrations(audit, record),
        floors=any(words.floor(s, audit.measures[k]) for k, s in candidate.scores.items() if k in audit.measures),
        groups=lambda *names: group_measures(audit, *names),
        keys=key_numbers(audit),
        limits_lede=LIMITS_LEDE[audit.level],
        missing=not_assessed(audit),
        outcomes=outcomes(audit),
        officer=for_the_officer(audit, record),
        others=[row for row in audit.rows if row.name != audit.candidate],
        sections={k: v for k, v in SECTIONS.items() if k != "sequence" or audit.sequence},
        sequence=sequence(audit),
        sequence_lede=sequence_lede(audit),
        share=share,
        statement=statement,
        version=__version__,
        warnings=breaks(audit, record) if record else (),
    )


def _interval(score: Score, measure: Measure) -> str:
    return words.interval(score.low, score.high, measure.unit)


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


def asked(audit: Audit, record: Record | None) -> dict[str, str]:
    """Return what was asked, of what, and why."""
    counts = audit.counts
    found = {"Data": f"{audit.data}, {len(audit.classes)} classes"}
    kept = f", {words.count(counts['retain'])} to keep" if "retain" in counts else ""
    if record and record.counts:
        found["Records"] = f"{record.counts.text}{kept}"
    elif "forget" in counts:
        found["Records"] = f"{words.count(counts['forget'])} to forget{kept}"
    found["Method"] = record.method if record else audit.candidate
    if audit.request.get("requested_at"):
        found["Requested"] = when(audit.request["requested_at"])
    if record:
        found["Done"] = when(record.created)
    if audit.request.get("reason"):
        found["Reason"] = str(audit.request["reason"])
    return found


def audited(audit: Audit) -> dict[str, str]:
    """Return how the audit itself was made."""
    found = {
        "Retrained models": str(audit.references),
        "Request (SHA-256)": audit.request_fingerprint,
        "Data (SHA-256)": audit.data_fingerprint,
        "Records": ", ".join(f"{k.replace('_', ' ')} {words.count(v)}" for k, v in audit.counts.items()),
        "Settings": _pairs(audit.settings),
    }
    if audit.seconds is not None:
        found["Time"] = words.duration(audit.seconds)
    found["Machine"] = str(audit.machine or "")
    return {k: v for k, v in found.items() if v}


def history_of(record: Record | None) -> tuple[Step, ...]:
    """Return the record's chain in words, from the first training on."""
    return tuple(_step(r) for r in record.chain) if record else ()


def _step(record: Record) -> Step:
    if record.action == "forget":
        title = f"Forgot {record.request.describe() if record.request else 'records'} with {record.method}"
    elif record.action == "given":
        title = "Model handed over; Efface did not train it"
    else:
        title = "Trained" if record.method in {"none", "retrain"} else f"Trained, prepared for {record.method}"
    facts = {
        "When": when(record.created),
        "Time": ", ".join(f"{k} {words.duration(v)}" for k, v in record.seconds.items()),
        **_spent(record),
        "Seed": str(record.seed),
        "Device": record.device,
        "Reason": record.request.reason if record.request else "",
        "Records forgotten": _some(record.forgotten_ids, record.counts),
        "Samples left out": _some(record.data.skipped),
        "Notes": " ".join(words.sentence(n) for n in record.notes),
    }
    details = {
        "Settings": _pairs(record.settings) or "none",
        "Recipe": _pairs(record.recipe.model_dump(mode="json")),
        "Model": f"{record.model.build} {_pairs(record.model.arguments)}".strip()
        if record.model
        else "a Python module",
        "Weights given": f"{record.origin.name} ({record.origin.format})" if record.origin else "",
        "Data": f"{record.data.source} {_pairs(record.data.options)}".strip(),
        "Data (SHA-256)": record.data.fingerprint,
        "Held out": f"{record.data.validation:g} of the training data, split seed {record.data.split_seed}",
        "Request (SHA-256)": record.request_fingerprint or "",
        "Weights before (SHA-256)": record.weights_before or "",
        "Weights after (SHA-256)": record.weights_after,
        "Versions": _pairs(record.versions),
        "Machine": str(record.machine or ""),
    }
    return Step(title, *({k: v for k, v in d.items() if v} for d in (facts, details)))


def _spent(record: Record) -> dict[str, str]:
    """Return what a step cost beside its time, where it was measured."""
    if record.spent is None:
        return {}
    by_kind = ", ".join(f"{kind} {words.count(n)}" for kind, n in record.spent.samples.items() if n)
    peak = record.spent.peak_memory
    return {
        "Training samples read": by_kind or "none",
        "Peak memory": "" if peak is None else f"{words.memory(peak)} above what was held before",
    }


def _some(names: Sequence[str], counts: Counts | None = None) -> str:
    """Join names, the first few of many; the record has all."""
    total = max(len(names), counts.forgotten if counts else 0)
    more = f" and {total - LISTED} more (record.json)" if total > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}" if names else ""


def _pairs(mapping: dict[str, Any]) -> str:
    return ", ".join(f"{k}: {_plain(v)}" for k, v in mapping.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + _pairs(value) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
