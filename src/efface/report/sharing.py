"""A version to share: an audit and its record without anything about single records, or about who asked."""

from __future__ import annotations

import re

from efface import words
from efface.artifact.record import Record
from efface.auditing.result import Audit, RowScores
from efface.auditing.verdict import Verdict
from efface.request import Request

__all__ = ["FEW", "shareable"]

QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""

FEW = 10
"""With fewer records to forget, even their histogram tells single ones."""

LEFT_OUT = (
    "Version to share: records, ids, groups, conditions and who asked are left out, and with them the hash of the "
    "request, from which they could be guessed; the internal version has them."
)


def shareable(audit: Audit, record: Record | None = None) -> tuple[Audit, Record | None]:
    """Return both without lists of single records; figures of few records go, too.

    An audit names the records that stand out, and those that stay leak as well: who learns that a record was asked for,
    or stands out, learns that it was in the training set. Scores over all records stay. What a request of whole classes
    asked for stays, too.

    Args:
        audit: What was measured.
        record: How the candidate came to be.
    """
    classes = audit.request.get("classes") or ()
    size = audit.counts.get("forget", 0)
    text = audit.request_text if audit.forget_classes else _records(size)
    plots, few = audit.plots, size < FEW
    if few:
        plots = plots.model_copy(update={"margins": (), "forget_answers": {}, "relearning": {}, "history": ()})
    changes = {
        "exposed": (),
        "request": {"classes": classes} if classes else {},
        "request_text": text,
        "request_fingerprint": "",
        "sequence": tuple(
            one.model_copy(update={"text": _records(one.records), "fingerprint": ""}) for one in audit.sequence
        ),
        "plots": plots,
        "rows": tuple(_unnamed(row) for row in audit.rows),
        "verdict": _said_without(audit.verdict),
        "notes": (*audit.notes, LEFT_OUT),
    }
    return audit.model_copy(update=changes), None if record is None else _without(record, few)


def _records(size: int) -> str:
    return f"{words.count(size)} record{'s' * (size != 1)}"


def _nameless(text: str) -> str:
    """Take number and id out of `record 17 ('cat/0.jpg')`, as scores of the most exposed record name it."""
    return re.sub(rf"\brecord \d+(?: \({QUOTED}\))?", "one record", text)


def _unnamed(row: RowScores) -> RowScores:
    scores = {key: score.model_copy(update={"why": _nameless(score.why)}) for key, score in row.scores.items()}
    return row.model_copy(update={"scores": scores})


def _said_without(verdict: Verdict) -> Verdict:
    checks = tuple(c.model_copy(update={"finding": _nameless(c.finding)}) for c in verdict.checks)
    sentences = tuple(map(_nameless, verdict.sentences))
    return verdict.model_copy(update={"checks": checks, "sentences": sentences})


def _without(record: Record, few: bool) -> Record:
    """Leave out what names records from a record and those before it; of a request only classes stay."""
    asked = record.request
    if asked is not None:
        asked = Request(classes=asked.classes) if asked.classes else None
    changes = {
        "request": asked,
        "request_fingerprint": None,
        "forgotten_ids": (),
        "history": () if few else record.history,
        "parent": None if record.parent is None else _without(record.parent, few),
        "data": record.data.model_copy(update={"skipped": ()}),
    }
    return record.model_copy(update=changes)
