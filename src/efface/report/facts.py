"""What was asked, how the audit was made, and how the model came to be: names with what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from efface import words
from efface.artifact.record import Record
from efface.auditing.result import Audit
from efface.data import Counts
from efface.report.officer import when

__all__ = ["Step", "asked", "audited", "history_of"]

LISTED = 20
"""Names of records that the page lists; record.json has all."""


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


def asked(audit: Audit, record: Record | None) -> dict[str, str]:
    """Return what was asked, of what, and why."""
    counts = audit.counts
    found = {"Data": f"{audit.data}, {len(audit.classes)} classes"}
    kept = f", {words.count(counts['retain'])} to keep" if "retain" in counts else ""
    if record and record.counts:
        found["Records"] = f"{record.counts.text}{kept}"
    elif "forget" in counts:
        found["Records"] = f"{words.count(counts['forget'])} to forget{kept}"
    if record:
        found["Method"] = record.method
    else:
        found["Model"] = audit.candidate
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
