"""A model card: what a model is, what it was made to forget, and how far an audit shows it; for readers outside."""

from __future__ import annotations

import math
from collections.abc import Iterator

from efface import __version__, words
from efface.artifact.record import Record
from efface.auditing.result import Audit
from efface.auditing.scores import written
from efface.errors import InputError
from efface.models.checkpoints.card import MARK
from efface.report.closing import answers
from efface.report.contents import breaks, columns, not_assessed
from efface.report.marks import listed, table, text
from efface.report.sharing import shareable

__all__ = ["model_card"]

FRONT = """---
tags:
- image-classification
- machine-unlearning
- efface
---"""

NEVER_AUDITED = "It was not audited: how far it has forgotten, and how useful it still is, is not known."


def model_card(record: Record, audit: Audit | None = None) -> str:
    """Return a model card as Markdown, with the front matter that model hubs read.

    It is written to be published: single records, groups, conditions and who asked are left out, as in a report to
    share (`efface.report.shareable`).

    Args:
        record: How the model came to be.
        audit: What was measured on it; None if nothing was.

    Raises:
        InputError: The audit is not of this model.

    Example:
        >>> import efface
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> masked = efface.forget(original, data, efface.Request(classes=[3]), method="logit-mask")
        >>> card = efface.model_card(masked.record, efface.audit(masked, data))
        >>> "was made to forget class 3" in card
        True
    """
    said: Record = record
    if audit is not None:
        if wrong := breaks(audit, record):
            raise InputError(f"this audit is not of the model whose record was given: {' '.join(wrong)}")
        audit, shared = shareable(audit, record)
        assert shared is not None
        said = shared
    parts = [FRONT.replace("- image-classification\n", "") if len(said.data.input_shape) != 3 else FRONT, MARK]
    parts += [*_what(record, audit), *_how_far(audit), *_made(said), *_limits(said, audit)]
    parts.append(f"Written by Efface {text(__version__)} from its record" + (" and audit." if audit else "."))
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(record: Record, audit: Audit | None) -> Iterator[str]:
    data, spec = record.data, record.model
    built = "a network handed over in Python" if spec is None else spec.build
    forgot = f" that was made to forget {text(_forgotten(record, audit))}" if record.action == "forget" else ""
    yield f"# {text(built)} on {text(data.source)}"
    yield f"A classifier of {len(data.classes)} classes{forgot}."
    facts = {
        "Built by": built + (f" ({', '.join(f'{k}={v}' for k, v in spec.arguments.items())})" if spec else ""),
        "Inputs": " x ".join(map(str, data.input_shape)),
        "Classes, in the outputs' order": ", ".join(data.classes),
        "Weights (SHA-256)": record.weights_after,
        "Made from (SHA-256)": record.weights_before or "nothing",
    }
    yield listed(facts)


def _forgotten(record: Record, audit: Audit | None) -> str:
    """Say what was forgotten without naming records: classes by name, else how many records."""
    asked = record.request
    assert asked is not None
    if asked.classes:
        return asked.describe()
    if audit is not None:
        return audit.request_text
    if record.counts is None:
        return "single records"
    return f"{words.count(record.counts.forgotten)} record{'s' * (record.counts.forgotten != 1)}"


def _how_far(audit: Audit | None) -> Iterator[str]:
    yield "## How far it has forgotten"
    if audit is None:
        yield NEVER_AUDITED
        return
    yield "\n".join(f"- {text(a.question)} **{text(a.short)}.** {text(a.rest)}" for a in answers(audit)[:2])
    yield text(audit.verdict.headline)
    shown = columns(audit)
    rows = [
        (text(row.name), *(written.value(row[m.key], m) if row[m.key].measured else "–" for m in shown.values()))
        for row in audit.rows
    ]
    yield table(("Model", *map(text, shown)), rows)
    missing = sum(map(len, not_assessed(audit).values()))
    if missing:
        yield f"{missing} further scores were not assessed; the audit says why."


def _made(record: Record) -> Iterator[str]:
    yield "## How it was made"
    for number, step in enumerate(record.chain, start=1):
        settings = ", ".join(f"{k}={v}" for k, v in step.settings.items())
        took = sum(step.seconds.values())
        facts = {
            "Method": step.method + (f" ({settings})" if settings else ""),
            "When": step.created.date().isoformat(),
            "Seed": str(step.seed),
            "Time": words.duration(took) if took and math.isfinite(took) else "not known",
            "With": ", ".join(f"{k} {v}" for k, v in step.versions.items()),
        }
        if step.action == "train":
            recipe = step.recipe
            facts["Recipe"] = (
                f"{recipe.optimiser}, rate {recipe.lr:g}, {recipe.epochs:g} epochs, batch {recipe.batch_size}"
            )
        yield f"### {number}. {text(step.action)}"
        yield listed(facts)


def _limits(record: Record, audit: Audit | None) -> Iterator[str]:
    yield "## What this does not show"
    found = list(audit.limits) if audit is not None else [NEVER_AUDITED]
    found += [f"The method says that it failed: {failure}" for failure in record.failures]
    yield "\n".join(f"- {text(words.sentence(limit))}" for limit in found)
