"""The page: a self-contained HTML document that a colleague, an auditor or a reviewer can read and print."""

from __future__ import annotations

from efface import __version__, words
from efface.artifact.record import Record
from efface.auditing.catalogue import Measure
from efface.auditing.figures import illustrations
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
from efface.report.officer import for_the_officer
from efface.report.sharing import shareable
from efface.report.templates import environment
from efface.report.verdict import LIMITS_LEDE, checks_lede, outcomes, sorted_checks, split_headline

__all__ = ["html"]


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
        "floor": written.floor,
        "good": written.good,
        "interval": _interval,
        "number": words.number,
        "sentence": words.sentence,
        "value": written.value,
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
        floors=any(written.floor(s, audit.measures[k]) for k, s in candidate.scores.items() if k in audit.measures),
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
