"""The report as Markdown: the same words and numbers without figures, for a pull request or a ticket."""

from __future__ import annotations

from collections.abc import Sequence

from efface import __version__, words
from efface.artifact.record import Record
from efface.auditing.catalogue import Measure
from efface.auditing.result import Audit
from efface.auditing.scores import written
from efface.auditing.scores.score import Score
from efface.report.closing import answers
from efface.report.contents import (
    SECTIONS,
    breaks,
    columns,
    group_measures,
    key_numbers,
    not_assessed,
    sequence,
    sequence_lede,
)
from efface.report.facts import asked, audited, history_of
from efface.report.marks import listed as _list
from efface.report.marks import table as _table
from efface.report.marks import text as _text
from efface.report.officer import for_the_officer
from efface.report.sharing import shareable
from efface.report.verdict import (
    LIMITS_LEDE,
    checks_lede,
    conclusion,
    outcomes,
    sorted_checks,
    split_headline,
)

__all__ = ["markdown"]


def markdown(audit: Audit, record: Record | None = None, *, share: bool = False) -> str:
    """Return the report as Markdown (GitHub's tables); text from outside is escaped, so that it stays text.

    Args:
        audit: What was measured.
        record: How the candidate came to be, with what it was made from; None if that is not known.
        share: Leave out single records and who asked.
    """
    if share:
        audit, record = shareable(audit, record)
    parts = [*_first(audit, record), *_sequence(audit), *_checks(audit), *_officer(audit, record), *_models(audit)]
    for section, groups in (
        ("utility", ("utility", "agreement")),
        ("attacks", ("membership", "ensembles")),
        ("inside", ("features", "relearning")),
    ):
        parts += [f"## {SECTIONS[section]}", _scores(audit, group_measures(audit, *groups))]
    parts += [*_records(audit, share), f"## {SECTIONS['cost']}", _scores(audit, group_measures(audit, "cost"))]
    parts += [*_how(audit, record), *_limits(audit), f"Efface {_text(__version__)}; figures are in report.html."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _value(score: Score, measure: Measure) -> str:
    if not score.measured:
        return "–"
    ends = words.interval(score.low, score.high, measure.unit)
    return written.value(score, measure) + (f" ({ends})" if ends else "")


def _first(audit: Audit, record: Record | None) -> list[str]:
    level, statement = split_headline(audit)
    rows = []
    for k in key_numbers(audit):
        unit = k.measure.unit
        others = [words.number(v, unit) if v is not None else "–" for v in (k.score.original, k.score.reference)]
        value = _value(k.score, k.measure) if k.score.measured else f"not assessed: {_text(k.score.why)}"
        rows.append(
            (
                f"{_text(k.question)} {_text(k.measure.title)} ({written.good(k.measure)})",
                value,
                *others,
                written.floor(k.score, k.measure) or "not known",
            )
        )
    return [
        f"# Asked to forget: {_text(audit.request_text)}",
        _list(asked(audit, record)),
        f"> **{_text(conclusion(audit))}** {_text(level)} {_text(statement)}",
        "\n".join(f"- {_text(a.question)} **{_text(a.short)}.** {_text(a.rest)}" for a in answers(audit, record)),
        _table(("Four numbers", _text(audit.candidate), "Original", "Retrained", "Noise floor"), rows),
    ]


def _sequence(audit: Audit) -> list[str]:
    if not audit.sequence:
        return []
    head, rows = sequence(audit)
    table = _table(head, [[_text(cell) for cell in row] for row in rows], "---")
    return [f"## {SECTIONS['sequence']}", sequence_lede(audit), table]


def _checks(audit: Audit) -> list[str]:
    said = outcomes(audit)
    rows = [(_text(c.question), said[c.outcome], _text(c.finding)) for c in sorted_checks(audit)]
    table = _table(("Question", "Outcome", "Finding"), rows, "---")
    return [f"## {SECTIONS['checks']}", checks_lede(audit), table if rows else ""]


def _models(audit: Audit) -> list[str]:
    shown = columns(audit)
    rows = [
        [
            f"**{_text(row.name)}**" if row.name == audit.candidate else _text(row.name),
            *(_value(row[m.key], m) for m in shown.values()),
        ]
        for row in audit.rows
    ]
    if audit.reference:
        mine = audit.row(audit.candidate)
        rows.append(["noise floor", *(written.floor(mine[m.key], m) or "not known" for m in shown.values())])
    beside = [_text(audit.as_long.text)] if audit.as_long else []
    return [f"## {SECTIONS['models']}", _table(("Model", *map(_text, shown)), rows), *beside]


def _scores(audit: Audit, measures: Sequence[Measure]) -> str:
    if not measures:
        return "Nothing of this kind was assessed."
    mine = audit.row(audit.candidate)
    others = [row for row in audit.rows if row.name != audit.candidate]
    rows = [
        (
            f"{_text(m.title)} ({written.good(m)})",
            _value(mine[m.key], m),
            written.floor(mine[m.key], m) or "–",
            *(_value(row[m.key], m) for row in others),
        )
        for m in measures
    ]
    return _table(("Score", _text(audit.candidate), "Noise floor", *(_text(r.name) for r in others)), rows)


def _officer(audit: Audit, record: Record | None) -> list[str]:
    officer = for_the_officer(audit, record)
    tried = [(_text(t.knowledge), _text(" ".join(t.questions)), _text(t.found)) for t in officer.tried]
    copies = [
        f"- {_text(c.what)}: {_text(c.why)}" + (f" SHA-256 {_text(c.mark)}" if c.mark else "") for c in officer.copies
    ]
    return [
        f"## {SECTIONS['officer']}",
        _list(officer.facts),
        _table(("Records", "Number"), [(_text(k), words.count(n)) for k, n in officer.counts])
        if officer.counts
        else "",
        "### What was tried against it",
        _table(("Someone who", "Asked", "Outcome"), tried, "---") if tried else "Nothing was asked about forgetting.",
        "### What remains",
        "\n".join(f"- {_text(text)}" for text in officer.risk),
        "### What may still hold the data",
        "\n".join(copies),
        "### Draft of an answer to the person",
        f"> {_text(officer.letter)}",
    ]


def _records(audit: Audit, share: bool) -> list[str]:
    title = f"## {SECTIONS['records']}"
    if share:
        return [title, "Left out of the version to share."]
    if not audit.exposed:
        return [title, "Not assessed: without a retrained model there is nothing to say which record stands out."]
    rows = [
        (
            f"{_text(e.name)} ({e.id})" if e.name else str(e.id),
            _text(audit.classes[e.label]),
            *(words.number(v, "number") if v is not None else "–" for v in (e.score, e.margin, e.expected)),
            "known better" if e.direction == "left" else "rejected more",
        )
        for e in audit.exposed
    ]
    said = f"Exposure: {_text(audit.exposed[0].measure)}. The last column compares with a model that never saw it."
    return [title, said, _table(("Record", "Class", "Exposure", "Margin", "Expected margin", "Reading"), rows)]


def _how(audit: Audit, record: Record | None) -> list[str]:
    parts = [f"## {SECTIONS['how']}"]
    if record is None:
        parts.append("No record was given: how this model was made is not known here, only how it answers.")
    else:
        parts += [f"**{_text(warning)}**" for warning in breaks(audit, record)]
    for number, step in enumerate(history_of(record), start=1):
        parts += [f"### {number}. {_text(step.title)}", _list({**step.facts, **step.details})]
    return [*parts, "### The audit", _list(audited(audit)), "\n".join(f"- {_text(n)}" for n in audit.notes)]


def _limits(audit: Audit) -> list[str]:
    parts = [f"## {SECTIONS['limits']}", LIMITS_LEDE[audit.level], "\n".join(f"- {_text(t)}" for t in audit.limits)]
    missing = not_assessed(audit)
    if missing:
        lines = [f"- {_text('; '.join(titles))}: {_text(why)}" for why, titles in missing.items()]
        parts += ["### Not assessed", "\n".join(lines)]
    return parts
