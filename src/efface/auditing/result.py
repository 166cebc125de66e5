"""What an audit found, as plain frozen data: JSON both ways, so that a report or a script needs nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from efface.auditing.as_long import AsLong
from efface.auditing.catalogue import MEASURES, Measure
from efface.auditing.exposed import Exposed
from efface.auditing.plots import Plots
from efface.auditing.rows import Level
from efface.auditing.scores import written
from efface.auditing.scores.score import Frozen, Number, Score
from efface.auditing.verdict import Answer, Verdict, VerdictOutcome
from efface.notebook import card
from efface.running.machine import Machine

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from efface.artifact.record import Record

__all__ = ["Audit", "RowScores", "Served"]


class RowScores(Frozen):
    """The scores of one model.

    Attributes:
        name: As given to `assess`, e.g. "original", "retrained", "fine-tuned", "logit mask", "mnemonic".
        scores: By key of `MEASURES`; every row has the same keys in the same order.
    """

    name: str
    scores: dict[str, Score]

    def __getitem__(self, key: str) -> Score:
        """Return one score by its key."""
        return self.scores[key]


class Served(Frozen):
    """One of the requests that a model has served, asked about again after the last: knowledge may come back.

    Attributes:
        step: 1 for the first request.
        text: The request in a few words.
        method: What forgot it.
        fingerprint: SHA-256 of the request on this data.
        records: Training records that it was the first to name.
        outcome: Of the verdict about them.
        answer: Its answer to "Did it forget?".
        differs: The questions that found a difference.
        original: Share of these records that the model before all requests gets right.
        then: The same of the model just after this request; None if it was not given.
        now: Of the model after the last request.
        retrained: Of a model retrained without what any request names; None at level a.
    """

    step: int
    text: str
    method: str
    fingerprint: str
    records: int
    outcome: VerdictOutcome
    answer: Answer
    differs: tuple[str, ...] = ()
    original: Number = None
    then: Number = None
    now: Number = None
    retrained: Number = None


class Audit(Frozen):
    """Everything that was measured, at which level, and what follows.

    Attributes:
        schema_version: Raised when a field changes its meaning.
        level: a: no retrained model; b: one; c: several.
        level_text: The same in words.
        candidate: Name of the row that the verdict is about.
        original: Name of the original's row.
        reference: Name of the retrained model's row; None at level a.
        data: Name of the data set.
        data_fingerprint: SHA-256 of the data set.
        classes: Names of all classes, in the logits' order.
        forget_classes: Class numbers to forget; empty for a request of items.
        request: The request, as its JSON.
        request_text: The request in a few words.
        request_fingerprint: SHA-256 of the request on this data.
        counts: Records in each part.
        references: How many retrained models were used.
        rows: One per model: original, retrained, baselines, candidate.
        measures: How to present each score.
        verdict: What follows.
        as_long: Where the candidate stands to retraining for as long as its forgetting took; None without such a row.
        sequence: Every request that the model has served, this one last, where all were asked about.
        exposed: The forget records that stand out most.
        plots: Arrays for figures.
        settings: What was asked of the audit: sub-sample sizes, resamples, rates.
        seed: Seed of the audit's draws; None in audits from before it was kept.
        notes: Sub-samples drawn, caps reached and other things to know.
        limits: What this audit does not show.
        answers_only: Whether there were no models to look into, only what they had answered.
        seconds: Wall time of the audit.
        machine: Where it was made; None in audits from before it was kept.

    Example:
        >>> import efface
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> masked = efface.forget(original, data, efface.Request(classes=[3]), method="logit-mask")
        >>> audit = efface.audit(masked, data)
        >>> audit.level, audit.row("logit-mask")["forget_accuracy"].value
        ('a', 0.0)
        >>> efface.Audit.from_json(audit.to_json()).candidate
        'logit-mask'
    """

    schema_version: Literal[1] = 1
    level: Level
    level_text: str
    candidate: str
    original: str
    reference: str | None
    data: str
    data_fingerprint: str
    classes: tuple[str, ...]
    forget_classes: tuple[int, ...]
    request: dict[str, Any]
    request_text: str
    request_fingerprint: str
    counts: dict[str, int]
    references: int
    rows: tuple[RowScores, ...]
    measures: dict[str, Measure] = Field(default_factory=lambda: dict(MEASURES))
    verdict: Verdict
    as_long: AsLong | None = None
    sequence: tuple[Served, ...] = ()
    exposed: tuple[Exposed, ...] = ()
    plots: Plots = Plots()
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    answers_only: bool = False
    seconds: Number = None
    machine: Machine | None = None

    @model_validator(mode="after")
    def _rows_are_named(self) -> Audit:
        names = [row.name for row in self.rows]
        needed = [self.candidate, self.original, *([self.reference] if self.reference else [])]
        missing = [name for name in needed if name not in names]
        if missing or len(set(names)) < len(names):
            raise ValueError(f"rows are named {names}; each name once, and {needed} among them")
        return self

    def __repr__(self) -> str:
        """Return one line: what was audited, at which level, and what came of it."""
        found = Counter(c.outcome for c in self.verdict.checks)
        counted = ", ".join(f"{outcome} {n}" for outcome, n in found.items())
        asked = f"{self.candidate!r}, asked to forget {self.request_text} ({self.data})"
        return f"<Audit of {asked}; level ({self.level}); did it forget? {self.answer}; questions: {counted}>"

    def __str__(self) -> str:
        """Return the verdict's first sentences."""
        return self.verdict.headline

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict and the scores that a verdict rests on, of every row."""
        asked = dict.fromkeys(c.measure for c in self.verdict.checks)
        keys = [k for k in asked if k in self.measures and any(r.scores[k].measured for r in self.rows)]
        head = ["", *(self.measures[k].title for k in keys)]
        rows = [[row.name, *(_said(row[k], self.measures[k]) for k in keys)] for row in self.rows]
        facts = {"did it forget": self.answer, "verdict": self.verdict.headline}
        return card(f"Audit: forget {self.request_text} ({self.data})", facts, [head, *rows])

    def to_frame(self) -> pd.DataFrame:
        """Return every score of every row as a pandas table, one line each.

        Columns: `row`, `role`, `score`, `group`, `title`, `unit`, then the fields of `Score`. For a table of rows by
        scores: `frame.pivot(index="row", columns="score", values="value")`.
        """
        import pandas as pd

        roles = {self.candidate: "candidate", self.original: "original", self.reference: "retrained"}
        lines = []
        for row in self.rows:
            for key, score in row.scores.items():
                measure = self.measures[key]
                about = {"row": row.name, "role": roles.get(row.name, "other"), "score": key}
                about |= {"group": measure.group, "title": measure.title, "unit": measure.unit}
                lines.append(about | score.model_dump())
        frame = pd.DataFrame(lines)
        numbers = [k for k, kind in Score.model_fields.items() if kind.annotation == float | None]
        return frame.astype(dict.fromkeys(numbers, "float64"))

    def figures(self, record: Record | None = None) -> dict[str, Figure]:
        """Return the report's figures as matplotlib figures, by name: `classes`, `confusion`, `margins` and others.

        Args:
            record: How the candidate came to be; with it, its accuracies over the steps of forgetting, too.
        """
        from efface.auditing.figures import illustrations

        return {name: made.figure for name, made in illustrations(self, record).items()}

    @property
    def answer(self) -> Answer:
        """The verdict's answer; where every request was asked about, the worst of theirs."""
        answers: list[Answer] = [self.verdict.answer, *(s.answer for s in self.sequence)]
        return "no" if "no" in answers else "could not tell" if "could not tell" in answers else answers[0]

    def row(self, name: str) -> RowScores:
        """Return the scores of one model.

        Raises:
            KeyError: If no row has this name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> str:
        """Return the audit as indented JSON without NaN or infinity."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Audit:
        """Read what `to_json` wrote."""
        return cls.model_validate_json(text)


def _said(score: Score, measure: Measure) -> str:
    return written.value(score, measure) if score.measured else "–"
