"""Two audits of one model: the recorded one and one made again; which scores differ?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efface.auditing.catalogue import CANARY_MEASURES, MEASURES, SEALED_MEASURES, Measure
from efface.auditing.result import Audit, RowScores
from efface.auditing.rows import AS_LONG
from efface.verifying.finding import Finding

__all__ = ["TOLERANCE", "compare_scores"]

TOLERANCE = 0.005
"""Half a per cent: another machine rounds otherwise, and a record on the edge may change sides."""

TRAINED_ANEW = (AS_LONG, "fine-tuned", "logit mask")
"""Rows that an audit makes itself."""

TRAINS = {"relearn_steps", "ain", "kept_data_margin", "block_probe"}
"""Scores of models or probes that are trained for them, so that rounding adds up."""

RELEARNING = 0.1
"""What those may differ by: a tenth, of the steps for example."""


def compare_scores(recorded: Audit, again: Audit, tolerance: float = TOLERANCE) -> list[Finding]:
    """Compare the scores of all rows that both audits hold, and the verdicts.

    Args:
        recorded: From audit.json.
        again: The same, made now.
        tolerance: Allowed difference: relative, and absolute below 1, as shares are.

    Returns:
        One finding per row, naming each score that differs; where both audits were sealed one for its sealed scores;
        one that explains scores that differ by where both were computed; one for what could not be compared; one for
        the verdict.
    """
    findings: list[Finding] = []
    names = [row.name for row in again.rows]
    same_references = recorded.references == again.references
    skipped: list[str] = []
    for row in recorded.rows:
        if row.name in TRAINED_ANEW or row.name not in names:
            skipped.append(f"row {row.name!r}")
            continue
        for subject, measures in (("scores", MEASURES | CANARY_MEASURES), ("sealed scores", SEALED_MEASURES)):
            pairs = _comparable(row, again.row(row.name), measures, same_references, skipped)
            wrong = [
                f"{m.key} {new:.4g}, recorded {old:.4g}"
                for m, old, new in pairs
                if abs(new - old) > _allowed(m, old, tolerance)
            ]
            if pairs:
                text = f"{len(pairs)} {subject} come out as recorded"
                findings.append(Finding.of(f"{subject} of {row.name!r}", "; ".join(wrong), text))
    findings += _sequence(recorded, again, tolerance)
    findings += _machine(recorded, again, findings)
    if skipped:
        few = ", ".join(skipped[:4]) + (f" and {len(skipped) - 4} more" if len(skipped) > 4 else "")
        why = "" if same_references else f" ({again.references} retrained models given, {recorded.references} recorded)"
        findings.append(Finding(subject="scores", outcome="not checked", text=f"{few}{why}"))
    if recorded.level != again.level or not same_references:
        text = f"the recorded verdict is of level {recorded.level} with {recorded.references} retrained models"
        findings.append(Finding(subject="verdict", outcome="not checked", text=f"{text}; give the same ones"))
    else:
        differs = recorded.verdict.outcome != again.verdict.outcome
        text = f"{again.verdict.outcome!r}, recorded {recorded.verdict.outcome!r}" if differs else ""
        findings.append(Finding.of("verdict", text, f"comes out as recorded: {recorded.verdict.outcome}"))
    return findings


def _machine(recorded: Audit, again: Audit, findings: Sequence[Finding]) -> list[Finding]:
    """Name the machines' differences where scores differ; that explains them, and excuses none."""
    if recorded.machine is None or again.machine is None or all(f.outcome != "fails" for f in findings):
        return []
    if unlike := again.machine.unlike(recorded.machine):
        text = f"scores were computed again with {', '.join(unlike)}, which rounds otherwise"
    else:
        text = f"scores were computed again on an equal machine ({again.machine}), so rounding explains no difference"
    return [Finding(subject="machine of the audit", outcome="not checked", text=text)]


def _sequence(recorded: Audit, again: Audit, tolerance: float) -> list[Finding]:
    """Compare what both say of every request of a sequence; nothing where only one was asked about."""
    findings = []
    for one, other in zip(recorded.sequence, again.sequence, strict=False):
        wrong = []
        if one.fingerprint != other.fingerprint:
            wrong.append("it means other records than were recorded")
        for name, old, new in (("before", one.original, other.original), ("now", one.now, other.now)):
            if (old is None) != (new is None) or abs((old or 0) - (new or 0)) > tolerance:
                wrong.append(f"{name} {_share(new)}, recorded {_share(old)}")
        if recorded.level == again.level and recorded.references == again.references and one.answer != other.answer:
            wrong.append(f"answer {other.answer!r}, recorded {one.answer!r}")
        findings.append(Finding.of(f"request {one.step}", "; ".join(wrong), f"{one.text}: comes out as recorded"))
    return findings


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _comparable(
    recorded: RowScores, again: RowScores, measures: Mapping[str, Measure], same_references: bool, skipped: list[str]
) -> list[tuple[Measure, float, float]]:
    """Return what was measured both times, recorded and now; what was not now is added to `skipped`."""
    pairs = []
    for key, score in recorded.scores.items():
        measure, other = measures.get(key), again.scores.get(key)
        if measure is None or measure.group == "cost" or score.value is None:
            continue
        if other is None or other.value is None or not (same_references or _alone(key)):
            skipped.append(f"{key} of {recorded.name!r}")
        else:
            pairs.append((measure, score.value, other.value))
    return pairs


def _allowed(measure: Measure, value: float, tolerance: float) -> float:
    """Return by how much a score may differ."""
    return (RELEARNING if measure.key in TRAINS else tolerance) * max(1.0, abs(value))


def _alone(key: str) -> bool:
    """Whether a score of one row does not depend on how many retrained models the audit had."""
    if key in CANARY_MEASURES:
        return True
    if key in SEALED_MEASURES:
        return key not in {"block_probe", "kept_mass"}
    return MEASURES[key].group in {"utility", "features"} or key in {"population_auc", "population_tpr", "loss_attack"}
