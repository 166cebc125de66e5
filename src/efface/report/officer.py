"""The part for a privacy officer: the request and its deadline, what was tried against it, and where copies may lie."""

from __future__ import annotations

import calendar
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from efface import words
from efface.artifact.record import Record
from efface.auditing.checks import USEFULNESS, Check, Outcome
from efface.auditing.result import Audit
from efface.report.closing import may_be_closed
from efface.words import counted

__all__ = ["Copy", "Officer", "Tried", "day", "deadline", "for_the_officer", "when"]

ONE_MONTH = "one month after receipt (GDPR Art. 12(3); two more where the person is told why within the first)"

KNOWLEDGE = {
    "utility": "asks the model and reads its answer",
    "membership": "reads the probability of every answer; in part also holds models that never saw the records",
    "agreement": "compares its answers with those of models that never saw the records",
    "features": "holds the weights, and other records of the same classes with their labels",
    "relearning": "holds the weights, and trains them further",
    "ensembles": "knows the method and repeats everything with many models: more than an outsider can",
}
"""What someone has to have for the questions of each group of measures."""


class Tried(NamedTuple):
    """Attacks that need the same knowledge.

    Attributes:
        knowledge: What someone who makes them has.
        questions: What was asked.
        found: How it came out, counted.
    """

    knowledge: str
    questions: tuple[str, ...]
    found: str


class Copy(NamedTuple):
    """Something that may still hold the data, or a model that knows it.

    Attributes:
        what: Its name.
        why: What it holds, and what to do with it.
        mark: A SHA-256 to find it by; empty without one.
    """

    what: str
    why: str
    mark: str = ""


@dataclass(frozen=True)
class Officer:
    """What the section shows.

    Attributes:
        facts: The request as it is filed.
        counts: Records by what became of them; the last row is their sum.
        tried: What was tried against the model.
        risk: What remains, in sentences.
        copies: What may still hold the data.
        letter: A draft of the answer to the person.
    """

    facts: dict[str, str]
    counts: tuple[tuple[str, int], ...]
    tried: tuple[Tried, ...]
    risk: tuple[str, ...]
    copies: tuple[Copy, ...]
    letter: str


def for_the_officer(audit: Audit, record: Record | None = None) -> Officer:
    """Return what a privacy officer files.

    Args:
        audit: What was measured.
        record: How the candidate came to be; None if that is not known.
    """
    return Officer(
        _facts(audit, record),
        _counts(record),
        _tried(audit),
        _risk(audit),
        _copies(audit, record),
        _letter(audit, record),
    )


def when(given: datetime | str) -> str:
    """Return a moment as a person writes it, e.g. `4 March 2026, 05:06 UTC`; text that is no moment stays."""
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except ValueError:
        return str(given)
    zone = moment.tzname() or ""
    return f"{day(moment)}, {moment:%H:%M} {zone}".strip()


def day(given: date) -> str:
    """Return a date as a person writes it, e.g. `4 March 2026`."""
    return f"{given.day} {given:%B %Y}"


def deadline(received: date) -> date:
    """Return the same day of the next month, or its last day where it has none (Regulation 1182/71, Art. 3)."""
    year, month = received.year + received.month // 12, received.month % 12 + 1
    return date(year, month, min(received.day, calendar.monthrange(year, month)[1]))


def _received(audit: Audit) -> date | None:
    given = audit.request.get("requested_at")
    try:
        return datetime.fromisoformat(str(given)).date() if given else None
    except ValueError:
        return None


def _facts(audit: Audit, record: Record | None) -> dict[str, str]:
    asked, received = audit.request, _received(audit)
    facts = {
        "Asked for": audit.request_text,
        "Received": when(asked["requested_at"]) if asked.get("requested_at") else "not recorded",
        "Asked by": str(asked.get("requested_by") or "not recorded"),
        "Filed under": str(asked.get("ticket") or "not recorded"),
        "Reason": str(asked.get("reason") or "not recorded"),
        "To be answered by": day(deadline(received)) if received else ONE_MONTH,
    }
    if record is not None:
        facts["Forgotten on"] = when(record.created)
        if received:
            late = (record.created.date() - deadline(received)).days
            facts["Within the deadline"] = "yes" if late <= 0 else f"no, {late} day{'s' * (late != 1)} late"
    return facts


def _counts(record: Record | None) -> tuple[tuple[str, int], ...]:
    if record is None or record.counts is None:
        return ()
    c = record.counts
    kinds = {
        "To forget: the model was trained on them": c.forgotten,
        "Held out of training: nothing to forget": c.untrained,
        "Already forgotten by an earlier request": c.already,
        "In the test set: never trained on": c.in_test,
        "Named more than once": c.repeated,
    }
    listed = [(k, n) for k, n in kinds.items() if n or k.startswith("To forget")]
    return (*listed, ("Asked for, together", c.asked))


def _tried(audit: Audit) -> tuple[Tried, ...]:
    groups: dict[str, list[Check]] = {}
    for check in audit.verdict.checks:
        if check.key not in USEFULNESS and check.measure in audit.measures:
            groups.setdefault(audit.measures[check.measure].group, []).append(check)
    made = []
    for group, knowledge in KNOWLEDGE.items():
        if group in groups:
            counts = Counter(c.outcome for c in groups[group])
            names: dict[Outcome, str] = {
                "differs": "found a difference",
                "alike": "found none",
                "not assessed": "could not be made",
            }
            found = ", ".join(f"{counts[k]} {said}" for k, said in names.items() if counts[k])
            made.append(Tried(knowledge, tuple(c.question for c in groups[group]), found))
    return tuple(made)


def _risk(audit: Audit) -> tuple[str, ...]:
    about = [c for c in audit.verdict.checks if c.key not in USEFULNESS]
    counts = Counter(c.outcome for c in about)
    alike = "found no difference" if audit.reference is not None else "found nothing wrong"
    found = [
        f"Of {counted(len(about), 'question')} about forgetting {counts['differs']} found a difference, "
        f"{counts['alike']} {alike}, {counts['not assessed']} could not be answered."
    ]
    tried = {
        audit.measures[c.measure].group for c in about if c.measure in audit.measures and c.outcome != "not assessed"
    }
    untried = [text for group, text in KNOWLEDGE.items() if group not in tried and group != "agreement"]
    if untried:
        found.append(f"Nothing is known of someone who {'; nor of someone who '.join(untried)}.")
    if audit.exposed:
        found.append(
            f"{len(audit.exposed)} single records that stand out most are listed below, with how much they do."
        )
    if audit.forget_classes:
        found.append(
            "Whole classes were to be forgotten: single records among them were not judged one by one for a person."
        )
    return (*found, *(words.sentence(text) for text in audit.limits))


def _memory(record: Record) -> str:
    """Return where an artifact's memory lies in its folder."""
    folders = sorted({f"{file.partition('/')[0]}/" for file in record.pieces})
    return " and ".join(folders or ["memory.safetensors"])


def _copies(audit: Audit, record: Record | None) -> tuple[Copy, ...]:
    done = "makes the model forget" if record else "looks at models"
    found = [Copy("The data itself", f"{audit.data}: Efface {done} and deletes no record of the data.")]
    for older in record.chain[:-1] if record else ():
        did = "as it was trained" if older.action == "train" else "as it was handed over"
        if older.action == "forget":
            did = f"after forgetting {older.request.describe() if older.request else 'other records'}"
        kept = f" With it lies what training kept for forgetting ({_memory(older)})." if older.memory_after else ""
        found.append(
            Copy(f"The model {did}", f"It knows the records: delete it, or lock it away.{kept}", older.weights_after)
        )
        if older.origin:
            text = "As it came; an optimiser's state in it holds what the data taught. Efface changed nothing in it."
            found.append(Copy(f"The file {older.origin.name}", text))
    if record is None:
        found.append(Copy("The model before", f"The row {audit.original!r} of this report; it knows the records."))
    if audit.answers_only:
        text = "They hold each model's answer to every record, those to forget among them: not needed after this audit."
        found.append(Copy("The tables of predictions", text))
    if record is not None and record.memory_after:
        text = "What the method keeps for later requests; the record says what became of the forgotten part."
        found.append(Copy(f"{_memory(record)} beside the new model", text))
    if audit.references:
        text = "They never saw the records."
        if not audit.answers_only:
            text += " A folder of references also keeps their answers, and its shadow models, if any, did see them."
        found.append(Copy(f"Retrained models: {audit.references}", text))
    found.append(_own_files(record))
    if record is not None:
        text = (
            "A stopped search leaves a hidden folder .NAME.trials beside the result, a writer that was stopped one "
            "that begins with .NAME; both go when the command is run to its end."
        )
        found.append(Copy("Temporary files", text))
    text = (
        "Models fine-tuned, distilled or exported from the old one, backups, caches of your own training. Efface knows "
        "of none that it did not make."
    )
    return (*found, Copy("Copies and descendants", text))


def _own_files(record: Record | None) -> Copy:
    if record is None:
        return Copy("audit.json", "It names the records asked for; the version to share does not.")
    return Copy("record.json and audit.json", "They name the records asked for; the version to share does not.")


def _letter(audit: Audit, record: Record | None) -> str:
    """Return a draft of one paragraph to the person, from the outcome."""
    received, ticket = _received(audit), audit.request.get("ticket")
    on = f"On {day(received)} you" if received else "You"
    filed = f" (our reference: {ticket})" if ticket else ""
    did = f" on {day(record.created)}" if record else ""
    others = f"{audit.references} models that were" if audit.references > 1 else "a model that was"
    closing = may_be_closed(audit, record)
    start = f"{on} asked us to delete data with which a machine-learning model had been trained{filed}."
    if closing.tone == "alike":
        return (
            f"{start} We removed their influence from the model{did} and compared the result with {others} trained "
            "without them. We found no difference. Such a check is careful evidence, not proof. [The earlier version "
            "of the model and our copies of the data were deleted on DATE.] You may complain to the supervisory "
            "authority if you disagree."
        )
    found = (
        "Our check found that the result does not yet meet our standard"
        if closing.tone == "differs"
        else "Our check cannot yet show whether that was enough"
    )
    by = f" by {day(deadline(received))}" if received else " within one month of your request"
    return (
        f"{start} We changed the model{did} in order to remove their influence. {found}, so your request is still "
        f"open. [We are going on with MEASURE.] You will hear from us{by}, with reasons if we need longer. You may "
        "complain to the supervisory authority."
    )
