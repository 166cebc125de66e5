"""Which figures an audit gives, with their captions and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable

from efface.artifact.record import Record
from efface.auditing.plots import MOST_CLASSES, course, most_changed
from efface.auditing.result import Audit
from efface.figures.charts import class_bars, curves, histograms, time_bars
from efface.figures.heat_maps import confusions
from efface.figures.illustration import Illustration, Rows
from efface.figures.style import BLACK, BLUE, INK
from efface.words import count, duration, share

__all__ = ["illustrations"]


def illustrations(audit: Audit, record: Record | None = None) -> dict[str, Illustration]:
    """Return the figures that the audit has data for, by name.

    Names: `classes`, `confusion`, `answers`, `margins`, `relearning`, `time`, `steps`.
    """
    makers: dict[str, Callable[[], Illustration | None]] = {
        "classes": lambda: _classes(audit),
        "confusion": lambda: _confusion(audit),
        "answers": lambda: _answers(audit),
        "margins": lambda: _margins(audit),
        "relearning": lambda: _relearning(audit),
        "time": lambda: _time(audit),
        "steps": lambda: _steps(audit, record),
    }
    made = {name: make() for name, make in makers.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def _compared(audit: Audit) -> list[str]:
    """Original, candidate and, if there is one, retrained."""
    names = [audit.original, audit.candidate, *([audit.reference] if audit.reference else [])]
    return list(dict.fromkeys(names))


def _percent(value: float | None) -> str:
    return "no data" if value is None else share(value)


def _some_of(audit: Audit, drawn: int) -> str:
    return f" Of {count(len(audit.classes))} classes these {drawn}: the forgotten ones, and the most changed."


def _bars(
    audit: Audit, key: str, shares: dict[str, list[float | None]], title: str, caption: str, axis: str
) -> Illustration:
    names = [n for n in _compared(audit) if n in shares]
    columns = [shares[n] for n in names]
    picked = most_changed(columns[0], columns[1], audit.forget_classes)
    if len(picked) < len(audit.classes):
        caption += _some_of(audit, len(picked))
    labels = [audit.classes[c] for c in picked]
    drawn = [[column[c] for c in picked] for column in columns]
    figure = class_bars(
        labels,
        *drawn[:3],
        marked=[i for i, c in enumerate(picked) if c in audit.forget_classes],
        series=(names[0], names[1], names[2] if len(names) > 2 else ""),
        x_label=axis,
    )
    rows = tuple((name, *(_percent(column[c]) for column in columns)) for c, name in zip(picked, labels, strict=True))
    return Illustration.of(figure, key, title, caption, ("Class", *names), rows)


def _classes(audit: Audit) -> Illustration | None:
    shares = {n: list(v) for n, v in audit.plots.per_class.items()}
    if not {audit.original, audit.candidate} <= set(shares) or audit.original == audit.candidate:
        return None
    forgotten = "; forgotten classes in bold" if audit.forget_classes else ""
    caption = f"Accuracy on unseen test data, before → after, in percent{forgotten}."
    if audit.reference in shares:
        caption += " The black tick is the model retrained without the data."
    return _bars(audit, "classes", shares, "Accuracy by class", caption, "test accuracy")


def _answers(audit: Audit) -> Illustration | None:
    shares: dict[str, list[float | None]] = {}
    for name, counts in audit.plots.forget_answers.items():
        shares[name] = [c / sum(counts) for c in counts] if sum(counts) else []
    if not all(shares.get(n) for n in (audit.original, audit.candidate)) or audit.original == audit.candidate:
        return None
    caption = "What each model answers for the records to forget, as a share of them, before → after, in percent."
    if audit.reference in shares:
        caption += " Where the black ticks lie is where a model that never saw them sends them."
    return _bars(audit, "answers", shares, "Where the forgotten records went", caption, "share of answers")


def _confusion(audit: Audit) -> Illustration | None:
    matrices = {n: audit.plots.confusion[n] for n in _compared(audit)[:2] if n in audit.plots.confusion}
    if not matrices:
        return None
    names = list(audit.classes)
    if shown := audit.plots.confusion_classes:
        names = [*(audit.classes[c] for c in shown), "all others"]
    marked = [i for i, c in enumerate(shown or range(len(names))) if c in audit.forget_classes]
    figure = confusions(matrices, names, marked=marked)
    caption = (
        "Each row holds the unseen test records of one class; the shade is the share, in percent, that got each answer."
    )
    if shown:
        caption += _some_of(audit, len(shown))
    head: tuple[str, ...] = ()
    rows: Rows = ()
    if len(names) <= MOST_CLASSES + 1 and audit.candidate in matrices:
        head = (f"Records of {audit.candidate}", *(f"answered {name}" for name in names))
        table = matrices[audit.candidate]
        rows = tuple((name, *map(count, row)) for name, row in zip(names, table, strict=True))
    return Illustration.of(figure, "confusion", "Confusion before and after", caption, head, rows)


def _margins(audit: Audit) -> Illustration | None:
    panels: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in _compared(audit):
        parts = {h.part: h.counts for h in audit.plots.margins if h.row == name}
        if parts:
            panels[name] = parts
    if not panels:
        return None
    edges = audit.plots.margins[0].edges
    caption = (
        "The margin is how far the right class is ahead of all others together: positive means recognised. Records to "
        "forget (filled) should lie as they do for a model that never saw them, and as unseen records do (outline)."
    )
    figure = histograms(panels, edges, x_label="margin (values beyond the axis stand in the outermost bars)")
    return Illustration.of(figure, "margins", "How sure the model is of the right answer", caption)


def _relearning(audit: Audit) -> Illustration | None:
    lines = {n: audit.plots.relearning[n] for n in _compared(audit) if audit.plots.relearning.get(n)}
    longest = max((len(v) for v in lines.values()), default=0)
    if longest < 2:
        return None
    figure = curves(
        range(longest),
        lines,
        x_label="training steps on the records to forget",
        y_label="accuracy on them",
        styles={audit.original: (INK, "-"), audit.candidate: (BLUE, "-"), audit.reference or "": (BLACK, "--")},
        height=280,
    )
    caption = (
        "Fine-tuning on the forgotten records, step by step, until they are known again. A model that really lacks the "
        "knowledge needs as long as the retrained one."
    )
    rows = tuple(
        (str(i), *(_percent(v[i]) if i < len(v) else "" for v in lines.values()))
        for i in range(longest)
        if i < 10 or i % max(1, longest // 20) == 0 or i == longest - 1
    )
    return Illustration.of(figure, "relearning", "How fast it is learnt again", caption, ("Step", *lines), rows)


def _time(audit: Audit) -> Illustration | None:
    seconds = {row.name: row["seconds"].value for row in audit.rows if "seconds" in row.scores}
    known = {name: value for name, value in seconds.items() if value is not None and value > 0}
    if len(known) < 2:
        return None
    reference = audit.reference if audit.reference in known else None
    figure = time_bars(known, reference=reference, marked=audit.candidate)
    caption = "Wall time of making each model; each mark on the axis is ten times the one before."
    rows = tuple((name, duration(value)) for name, value in known.items())
    return Illustration.of(figure, "time", "Time", caption, ("Model", "Wall time"), rows)


def _steps(audit: Audit, record: Record | None) -> Illustration | None:
    found = course(audit.plots.history or (record.history if record else ()))
    if found is None:
        return None
    at, lines = found
    series = {name: [float("nan") if v is None else v for v in values] for name, values in lines.items()}
    figure = curves(at, series, x_label="step", y_label="accuracy")
    caption = "Accuracy while forgetting went on, as the method recorded it; step 0 is the model before."
    if at[-1] != at[0] + len(at) - 1 or at[0] != 0:
        caption = "Accuracy while forgetting went on, as the method recorded it."
    rows = tuple((f"{x:g}", *(_percent(values[i]) for values in lines.values())) for i, x in enumerate(at))
    return Illustration.of(figure, "steps", "Forgetting step by step", caption, ("Step", *lines), rows)
