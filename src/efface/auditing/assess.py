"""`assess`: everything that can be measured about a candidate, at the level of evidence that the models allow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment

from efface.auditing.answers import AllAnswers, Answers, KeptAnswers
from efface.auditing.as_long import AsLong, standing
from efface.auditing.canaries import about_the_records, canaries_instead, canary_checks, with_canaries
from efface.auditing.catalogue import CANARY_MEASURES, MEASURES, SEALED_MEASURES
from efface.auditing.checks import Check, Standard, checks_against_floor, checks_against_original, not_assessed
from efface.auditing.exposed import most_exposed
from efface.auditing.measures.accuracy import confusion
from efface.auditing.plots import plots
from efface.auditing.records import Records
from efface.auditing.result import Audit, RowScores
from efface.auditing.rows import AS_LONG, Rows
from efface.auditing.scores.ensembles import Thirds
from efface.auditing.sealed import sealed_checks, with_deeper
from efface.auditing.settings import AuditSettings
from efface.auditing.table import Table
from efface.auditing.verdict import ANSWERS_ONLY, LEVELS, LIMITS, Verdict, conclude
from efface.auditing.yardstick import unchanged, unfit
from efface.data.split import Split
from efface.errors import InputError
from efface.models.recorded import Recorded
from efface.running.machine import Machine
from efface.running.run import Run

__all__ = ["assess"]

PARTS = ("forget", "retain", "validation_retain", "validation_forget", "test_retain", "test_forget")


def assess(
    rows: Rows,
    split: Split,
    run: Run,
    *,
    settings: AuditSettings | None = None,
    thirds: Thirds | None = None,
    history: Sequence[Mapping[str, float | str]] = (),
    kept: KeptAnswers | None = None,
) -> Audit:
    """Measure models under a request and conclude.

    Each model answers each part once; margins and all that follows are computed from those answers.

    Args:
        rows: The models, from inputs to logits; never changed.
        split: The data under the request.
        run: Device, randomness (`run.generator`), progress.
        settings: Bounds and tolerances.
        thirds: Shadow models in RULI's design and their roles, for U-LiRA on single records.
        history: Rows of named numbers to be drawn, e.g. accuracies over decay steps.
        kept: Where to keep the answers of further models for other audits, and to take them from.

    Raises:
        InputError: The split has no request, or a model's answers cannot be used (width, NaN, another class order).
    """
    started = time.perf_counter()
    records = Records.drawn(split, settings or AuditSettings(), run)
    answers = AllAnswers.of(rows, records, kept)
    _same_class_order(answers.original)
    folder = kept.folder if kept else None
    table = Table.of(rows, answers, records, thirds, folder)
    if records.with_canaries:
        table = with_canaries(table, answers, records)
    if records.settings.sealed:
        table = with_deeper(table, rows, answers, records, folder)
    found = _audit(rows, records, table, _verdict(rows, answers, table, records))
    references = [a for a in answers.everyone if a is not answers.candidate]
    return found.model_copy(
        update={
            "as_long": _as_long(rows, answers, table, records, found.verdict),
            "exposed": most_exposed(answers.candidate, references, records.settings.exposed),
            "plots": plots(
                list(answers.table.values()),
                table.relearned,
                history,
                between=(rows.original.name, rows.candidate.name),
                forgotten=split.forget_classes,
            ),
            "seconds": time.perf_counter() - started,
        }
    )


def _audit(rows: Rows, records: Records, table: Table, verdict: Verdict) -> Audit:
    """Write down what was asked, of which models, and what came out."""
    split = records.split
    assert split.request is not None
    assert split.resolved is not None
    recorded = isinstance(rows.candidate.model, Recorded)
    return Audit(
        level=rows.level,
        level_text=LEVELS[rows.level],
        candidate=rows.candidate.name,
        original=rows.original.name,
        reference=None if rows.retrained is None else rows.retrained.name,
        data=split.data.name,
        data_fingerprint=split.data.fingerprint,
        classes=split.data.classes,
        forget_classes=split.forget_classes,
        request=split.request.model_dump(mode="json"),
        request_text=split.request_text,
        request_fingerprint=split.resolved.fingerprint,
        counts={name: len(getattr(split, name)) for name in PARTS},
        references=rows.references,
        rows=tuple(RowScores(name=name, scores=scores) for name, scores in table.scores.items()),
        measures=MEASURES
        | (CANARY_MEASURES if records.with_canaries else {})
        | (SEALED_MEASURES if records.settings.sealed else {}),
        verdict=verdict,
        settings=records.settings.model_dump(mode="json"),
        seed=records.run.seed,
        notes=(*records.notes, *rows.notes),
        limits=(*LIMITS, ANSWERS_ONLY) if recorded else LIMITS,
        answers_only=recorded,
        machine=Machine.here(records.run.device),
    )


def _verdict(rows: Rows, answers: AllAnswers, table: Table, records: Records) -> Verdict:
    """Ask the questions of the candidate, and as a control of the original."""
    name, by_class = rows.candidate.name, records.by_class
    same = unchanged(answers.candidate, answers.original)
    recorded = isinstance(answers.candidate.model, Recorded)
    hidden = _further(rows.original.name, table, records)
    further = _further(name, table, records, _further(rows.original.name, table, records, meddled=True))
    if rows.level == "a":
        checks = checks_against_original(table.scores[name], records.settings, by_class=by_class)
        return conclude(rows.level, name, (*checks, *further), unchanged=same, recorded=recorded)
    standard = Standard(rows.level, table.floors, records.settings, records.simultaneous_confidence)
    control = checks_against_floor(table.scores[rows.original.name], standard, by_class=by_class)
    checks = checks_against_floor(table.scores[name], standard, by_class=by_class, control=control)
    control, checks = (*control, *hidden), (*checks, *further)
    if recorded:
        checks = _open(checks, control)
    if reason := unfit(answers, records):
        return conclude(rows.level, name, not_assessed(checks, reason), unchanged=same, unfit=reason)
    about, instead = about_the_records(answers, table, records), canaries_instead(records)
    return conclude(
        rows.level,
        name,
        checks,
        control,
        unchanged=same,
        about=about,
        instead="" if recorded else instead,
        recorded=recorded,
    )


def _open(checks: Sequence[Check], control: Sequence[Check]) -> tuple[Check, ...]:
    """Let what recorded answers cannot be asked stay open, so that it never passes: the models could tell."""
    never = {c.key for c in control if c.outcome == "not assessed" and c.told is None}
    return tuple(c.model_copy(update={"told": None}) if c.key in never else c for c in checks)


def _as_long(rows: Rows, answers: AllAnswers, table: Table, records: Records, verdict: Verdict) -> AsLong | None:
    """Ask the row of retraining for as long the same questions, and say where the candidate stands to it."""
    if (
        AS_LONG not in answers.table
        or rows.level == "a"
        or verdict.unfit
        or not len(answers.original.labels["test_retain"])
    ):
        return None
    standard = Standard(rows.level, table.floors, records.settings, records.simultaneous_confidence)
    before, by_class = rows.original.name, records.by_class
    control = checks_against_floor(table.scores[before], standard, by_class=by_class)
    theirs = checks_against_floor(table.scores[AS_LONG], standard, by_class=by_class, control=control)
    hidden = _further(AS_LONG, table, records, _further(before, table, records, meddled=True))
    return standing(rows, answers, verdict.checks, (*theirs, *hidden), records.settings.confidence)


def _further(
    row: str, table: Table, records: Records, control: Sequence[Check] | None = None, *, meddled: bool = False
) -> tuple[Check, ...]:
    """Ask a row about canaries, where the request names them, and the sealed questions, where they are open.

    With `meddled`, the row is the original, and its head is meddled with.
    """
    found: tuple[Check, ...] = ()
    if records.with_canaries:
        found += canary_checks(table.scores[row], control)
    if records.settings.sealed:
        scores = {**table.scores[row], **(table.meddled if meddled else {})}
        found += sealed_checks(scores, by_class=records.by_class, control=control)
    return found


def _same_class_order(original: Answers) -> None:
    """Refuse an original that is right only after its outputs are permuted."""
    parts = [p for p in ("retain", "forget") if len(original.labels[p])]
    logits, labels = (torch.cat([x[p] for p in parts]) for x in (original.logits, original.labels))
    table = confusion(logits, labels)
    right = float(table.diagonal().sum()) / len(labels)
    if right > 0.9:  # no other order can be right on a tenth more
        return
    rows, columns = linear_sum_assignment(-table.numpy())
    best = float(table[rows, columns].sum()) / len(labels)
    if best > 0.8 and best - right > 0.1:
        names = original.records.split.data.classes
        wrong = [f"{names[c]} as output {int(columns[c])}" for c in rows if columns[c] != c]
        swapped = ", ".join(wrong[:10]) + (f" and {len(wrong) - 10} more" if len(wrong) > 10 else "")
        raise InputError(
            f"The model {original.name!r} is right on {right:.0%} of its training data, but on {best:.0%} with its "
            f"outputs reordered ({swapped}); its class order is not the data's. Reorder the head's rows or the classes."
        )
