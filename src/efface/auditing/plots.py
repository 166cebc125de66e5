"""The arrays that a report draws: accuracies by class, confusion, where forget records went, margins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from efface.auditing.answers import Answers
from efface.auditing.measures.accuracy import confusion, per_class_accuracy
from efface.auditing.scores.relearning import Relearned
from efface.auditing.scores.score import Frozen, Number

__all__ = [
    "MOST_CLASSES",
    "Histogram",
    "Plots",
    "class_accuracies",
    "course",
    "margin_histograms",
    "most_changed",
    "plots",
]

BINS = 40

MOST_CLASSES = 20
"""Classes in a table or figure of classes; of more, those that matter."""


class Histogram(Frozen):
    """Margins of one model on one part.

    Attributes:
        row: The model.
        part: The part, e.g. "forget", "held out".
        edges: Bin edges, one more than counts; shared by all histograms of an audit.
        counts: Records in each bin; margins beyond the edges are counted in the outermost bins.
    """

    row: str
    part: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Plots(Frozen):
    """Arrays for figures.

    Attributes:
        per_class: Test accuracy of each class by row; None where the test data lacks a class.
        per_class_counts: Test records of each class.
        confusion: Test confusion matrix by row: rows are labels, columns answers.
        confusion_classes: Classes of these matrices, in which all others then share the last row and column; empty
            where they are of all classes.
        forget_answers: By row, how often each class was answered for the forget records: where they went.
        margins: Histograms of margins.
        relearning: By row, forget accuracy after each relearning step, from 0 on.
        history: What the caller passed in, e.g. retain and forget accuracy over decay steps.
    """

    per_class: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    per_class_counts: tuple[int, ...] = ()
    confusion: dict[str, tuple[tuple[int, ...], ...]] = Field(default_factory=dict)
    confusion_classes: tuple[int, ...] = ()
    forget_answers: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    margins: tuple[Histogram, ...] = ()
    relearning: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    history: tuple[dict[str, Number | str], ...] = ()


def margin_histograms(margins: Mapping[tuple[str, str], Tensor]) -> tuple[Histogram, ...]:
    """Return histograms of margins with common edges.

    The edges span the 0.5th to the 99.5th percentile of all finite margins; what lies beyond, such as the margins of a
    masked class, is counted in the outermost bins.

    Args:
        margins: By (row, part), shape (records,).
    """
    everything = torch.cat([m.flatten() for m in margins.values()]) if margins else torch.empty(0)
    finite = everything[everything.isfinite() & (everything.abs() < 1000)].sort().values
    if len(finite) == 0:
        return ()
    low, high = (float(finite[round(q * (len(finite) - 1))]) for q in (0.005, 0.995))
    edges = torch.linspace(low - 0.5, high + 0.5, BINS + 1, dtype=torch.float64)
    found = []
    for (row, part), values in margins.items():
        cells = (torch.bucketize(values.double(), edges) - 1).clamp(0, BINS - 1)
        counts = torch.bincount(cells, minlength=BINS)
        found.append(Histogram(row=row, part=part, edges=tuple(edges.tolist()), counts=tuple(counts.tolist())))
    return tuple(found)


def _test_confusion(model: Answers) -> Tensor | None:
    """Return a model's confusion matrix over its test records, rows are labels; None if none was asked."""
    parts = [p for p in ("test_retain", "test_forget") if len(model.labels[p])]
    if not parts:
        return None
    return confusion(torch.cat([model.logits[p] for p in parts]), torch.cat([model.labels[p] for p in parts]))


def class_accuracies(model: Answers) -> tuple[float | None, ...]:
    """Return a model's test accuracy by class, None where there are no records; empty if none was asked."""
    table = _test_confusion(model)
    known = [] if table is None else per_class_accuracy(table).tolist()
    return tuple(None if math.isnan(share) else share for share in known)


def most_changed(
    before: Sequence[float | None], after: Sequence[float | None], forgotten: Sequence[int]
) -> tuple[int, ...]:
    """Return all classes, or where there are too many the forgotten ones first, then those that changed most, sorted.

    Args:
        before: A share for each class, in the model before.
        after: The same in the model after.
        forgotten: Class numbers.
    """
    if len(before) <= MOST_CLASSES:
        return tuple(range(len(before)))
    gone = set(forgotten)
    moved = [abs((b or 0.0) - (a or 0.0)) for a, b in zip(before, after, strict=True)]
    return tuple(sorted(sorted(range(len(before)), key=lambda c: (c not in gone, -moved[c]))[:MOST_CLASSES]))


def cut(table: Tensor, classes: Sequence[int]) -> Tensor:
    """Return a confusion matrix of some classes, in which all others share the last row and column.

    Args:
        table: Counts, shape (K, K).
        classes: n different ones of the K.

    Returns:
        Shape (n + 1, n + 1), of the same sum.
    """
    place = torch.full((len(table),), len(classes))
    place[list(classes)] = torch.arange(len(classes))
    n = len(classes) + 1
    rows = table.new_zeros(n, len(table)).index_add_(0, place, table)
    return table.new_zeros(n, n).index_add_(1, place, rows)


def plots(
    models: Sequence[Answers],
    relearning: Mapping[str, Relearned],
    history: Sequence[Mapping[str, float | str]],
    *,
    between: tuple[str, str] | None = None,
    forgotten: Sequence[int] = (),
) -> Plots:
    """Return the arrays that a report draws.

    Args:
        models: Of the table's rows.
        relearning: By row.
        history: Rows of named numbers from forgetting, passed through.
        between: Rows before and after forgetting: of many classes, the confusion tables hold those that changed most
            from one to the other. None keeps tables of all classes.
        forgotten: Classes to forget, which the tables hold in any case.
    """
    per_class, tables, answered, margins = {}, {}, {}, {}
    counts: tuple[int, ...] = ()
    for s in models:
        if (table := _test_confusion(s)) is not None:
            per_class[s.name] = class_accuracies(s)
            tables[s.name] = table
            counts = tuple(table.sum(1).tolist())
        answered[s.name] = tuple(confusion(s.logits["forget"], s.labels["forget"]).sum(0).tolist())
        margins[s.name, "forget"] = s.margin("forget")
        if len(s.labels["held_out"]):
            margins[s.name, "held out"] = s.margin("held_out")
    shown: tuple[int, ...] = ()
    if between is not None and len(counts) > MOST_CLASSES:
        before, after = between
        shown = most_changed(per_class[before], per_class[after], forgotten)
        tables = {name: cut(table, shown) for name, table in tables.items()}
    return Plots(
        per_class=per_class,
        per_class_counts=counts,
        confusion={name: tuple(map(tuple, table.tolist())) for name, table in tables.items()},
        confusion_classes=shown,
        forget_answers=answered,
        margins=margin_histograms(margins),
        relearning={name: found.course.accuracies for name, found in relearning.items() if found.course},
        history=tuple(dict(row) for row in history),
    )


def course(history: Iterable[Mapping[str, object]]) -> tuple[list[float], dict[str, list[float | None]]] | None:
    """Return accuracies over the steps of forgetting: their positions, and each line by its name.

    Of a method's rows, those of the stages `NAME/before` (step 0), `NAME` and `NAME/after` that hold a number named
    `..._accuracy` count; x is their `step`, or one more than the row before. None if no method has three such rows with
    an accuracy on forget data: two points make no curve.

    Args:
        history: Rows of named numbers, as `Run.history` collects them.
    """
    rows: list[dict[str, object]] = [dict(r) for r in history]
    for name in dict.fromkeys(str(row.get("stage")).split("/")[0] for row in rows):
        mine = [row for row in rows if str(row.get("stage")).removeprefix(name) in {"", "/before", "/after"}]
        keys = [k for k in dict.fromkeys(k for row in mine for k in row) if k.endswith("accuracy")]
        mine = [row for row in mine if any(_number(row.get(k)) is not None for k in keys)]
        if len(mine) < 3 or not any("forget" in k for k in keys):
            continue
        at: list[float] = []
        for row in mine:
            given = _number(row.get("step"))
            at.append(given if given is not None else at[-1] + 1 if at else 0.0)
        keys.sort(key=lambda k: "forget" in k)  # kept data first: its line is blue in every report
        return at, {k.replace("_", " "): [_number(row.get(k)) for row in mine] for k in keys}
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
