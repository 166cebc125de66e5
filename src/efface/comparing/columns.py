"""The few numbers of a comparison's table: names for the audit's measures, in per cent, as publications print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.plots import class_accuracies
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores.features import Probed, probe_scores
from efface.auditing.scores.relearning import Relearned, relearning_scores
from efface.auditing.scores.score import Score, Scores
from efface.auditing.scores.utility import utility_scores
from efface.auditing.settings import AuditSettings
from efface.data import Split
from efface.running.run import Run

__all__ = ["COLUMNS", "Column", "Measured", "columns_of", "measure"]


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        name: Its header.
        classes: The audit's measure that it prints, for requests of classes.
        items: The same for requests of items; empty where there is none.
        meaning: For the reader of the table.
        complement: Print 100 % less the measure.
        percent: Print shares in per cent.
    """

    name: str
    classes: str
    items: str
    meaning: str
    complement: bool = False
    percent: bool = True


COLUMNS = (
    Column("A_R", "test_accuracy", "test_accuracy", "accuracy on test samples of kept classes (items: on all), %"),
    Column(
        "E_F",
        "test_forget_accuracy",
        "forget_accuracy",
        "error on test samples of forgotten classes (items: on the samples to forget), %",
        complement=True,
    ),
    Column("RA", "retain_accuracy", "retain_accuracy", "accuracy on retained training samples, %"),
    Column("FA", "forget_accuracy", "forget_accuracy", "accuracy on the training samples to forget, %"),
    Column(
        "probe",
        "probe_recall",
        "",
        "recall of the forgotten classes by a linear probe on the features, % (compare with retrain, not with 0)",
    ),
    Column(
        "relearn",
        "relearn_steps",
        "relearn_steps",
        "steps of training on the samples to forget until they are known again (100: not within 100)",
        percent=False,
    ),
)


@dataclass(frozen=True)
class Measured:
    """What was found of one model.

    Attributes:
        scores: By column name; see `COLUMNS`.
        per_class: Test accuracy by class in [0, 1]; None where the test data lacks a class.
    """

    scores: Scores
    per_class: tuple[float | None, ...]


def measure(
    model: nn.Module, original: nn.Module, split: Split, run: Run, measures: Sequence[str], sampled: int = 10_000
) -> Measured:
    """Measure the columns of one model under one request as an audit with the same seed measures them.

    Args:
        model: What to measure, on the run's device.
        original: The model before forgetting.
        split: The data under the request.
        run: Randomness and device.
        measures: Some of `accuracy`, `probe`, `relearning`.
        sampled: Most retained training samples that are looked at.
    """
    # The probe from a few records and the bootstraps are computed beside the full probe, and are not printed.
    records = Records.drawn(split, AuditSettings(retain_samples=sampled, few_draws=2, resamples=100), run)
    before = Answers.of(Row("original", "original", original), records)
    ours = Answers.of(Row("model", "candidate", model), records, original=before)
    scores: Scores = {}
    if "accuracy" in measures:
        scores |= utility_scores(ours, None, before)
    if "probe" in measures:
        scores |= probe_scores(ours, Probed.of(ours), None)
    if "relearning" in measures:
        scores |= relearning_scores(Relearned.of(ours, before), None)
    return Measured(columns_of(scores, by_class=records.by_class), class_accuracies(ours))


def columns_of(scores: Mapping[str, Score], *, by_class: bool) -> Scores:
    """Return the columns among an audit's scores of one model.

    Args:
        scores: By the audit's keys.
        by_class: Whether whole classes are forgotten.
    """
    found: Scores = {}
    for column in COLUMNS:
        key = column.classes if by_class else column.items
        if key in scores:
            found[column.name] = _printed(scores[key], column)
    return found


def _printed(score: Score, column: Column) -> Score:
    """Return a share in per cent, or as what is missing to 100 %; steps as they are."""
    if not column.percent:
        return score

    def turned(x: float | None) -> float | None:
        return None if x is None else 100 - 100 * x if column.complement else 100 * x

    ends = ("high", "low") if column.complement else ("low", "high")
    update: dict[str, float | str | None] = {
        k: turned(getattr(score, k)) for k in ("value", "original", "reference", "floor")
    }
    update |= {"low": turned(getattr(score, ends[0])), "high": turned(getattr(score, ends[1]))}
    floor = tuple(turned(getattr(score, f"floor_{end}")) for end in ends)
    update |= {"floor_low": floor[0], "floor_high": floor[1]}
    sign = -100 if column.complement else 100
    gap = tuple(None if x is None else sign * x for x in (score.gap, *(getattr(score, f"gap_{e}") for e in ends)))
    turned_bound = {"": "", "at least": "at most", "at most": "at least"}
    bound = turned_bound[score.bound] if column.complement else score.bound
    return score.model_copy(update=update | {"gap": gap[0], "gap_low": gap[1], "gap_high": gap[2], "bound": bound})
