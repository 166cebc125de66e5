"""Figures of a comparison: what is forgotten, what is kept, how long it takes, over settings, steps and classes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from efface.comparing.grouped import by_row, column_of
from efface.comparing.plan import ORIGINAL, Entry, Plan
from efface.figures.charts import curves, time_bars
from efface.figures.heat_maps import heat_map
from efface.figures.panels import class_panels
from efface.figures.points import front, points
from efface.figures.style import save
from efface.request import Request
from efface.words import duration, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "draw", "pictures"]

MOST_ROWS = 40
"""Rows of a figure of points; of more, the first are drawn."""

MOST_CLASSES = 20
"""Classes of a figure; of more, the forgotten ones and those on which rows differ most are drawn."""

MOST_REQUESTS = 3
"""Requests whose classes are drawn; of more, the first."""

OVER_SETTINGS = {"A_R": "Accuracy on kept classes", "E_F": "Error on forgotten classes"}
"""Columns that are drawn over one setting or two, and what they are."""

DECADES = 20
"""From this ratio of a setting's largest value to its smallest, its axis is one of factors."""

MOST_TICKS = 10
"""Values of a setting that are named on such an axis."""

Cells = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Picture:
    """A figure with its words and the numbers behind it.

    Attributes:
        file: Name of its PNG without the ending.
        title: Its name.
        caption: What to look for.
        figure: Drawn.
        head: Header of the table of numbers.
        rows: That table.
    """

    file: str
    title: str
    caption: str
    figure: Figure
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def pictures(plan: Plan, frame: pd.DataFrame, cells: Cells = ()) -> list[Picture]:
    """Draw what a comparison has numbers for.

    Args:
        plan: What was compared.
        frame: One row per cell, as in results.csv.
        cells: As they are kept, with what a table has no room for: test accuracy by class, accuracies over steps.
    """
    found = [*_useful(plan, frame), *_passed(plan, frame), *_seconds(plan, frame)]
    for entry in plan.methods:
        if len(entry.grid) == 1:
            found += _sweep(entry, frame[frame.entry == entry.name])
        if len(entry.grid) == 2:
            found += _maps(entry, frame[frame.entry == entry.name])
    for entry in plan.methods:
        found += _courses(entry, [c for c in cells if c["entry"] == entry.name])
    found += _classes(plan, cells)
    taken: Counter[str] = Counter()
    for number, picture in enumerate(found):  # two labels may differ only in what no file name can hold
        taken[picture.file] += 1
        if taken[picture.file] > 1:
            found[number] = dataclasses.replace(picture, file=f"{picture.file}-{taken[picture.file]}")
    return found


def draw(found: Sequence[Picture], folder: Path) -> list[Path]:
    """Write each picture as a PNG into a folder."""
    return [save(p.figure, folder / f"{p.file}.png") for p in found]


def _rows(plan: Plan, frame: pd.DataFrame) -> dict[str, tuple[Entry, pd.DataFrame]]:
    """Return the cells of every row of the table by its name; entries with a map of their own are left out."""
    return {name: found for name, found in by_row(plan, frame).items() if len(found[0].grid) != 2}


def _useful(plan: Plan, frame: pd.DataFrame) -> Iterator[Picture]:
    if not {"A_R", "E_F"} <= set(frame):
        return
    rows = _rows(plan, frame)
    means = {name: (part.E_F.mean() / 100, part.A_R.mean() / 100) for name, (_, part) in rows.items()}
    known = {name: at for name, at in means.items() if np.isfinite(at).all()}
    at = dict(list(known.items())[:MOST_ROWS])
    if len(at) < 2:
        return
    published = {name: place for name in at if (place := _published(plan, rows[name][0].name))}
    reference = next((name for name in at if rows[name][0].method == "retrain"), None)
    caption = "Error on what is forgotten, and accuracy on what is kept, as means over seeds and requests."
    if reference:
        caption += f" The best place is that of {reference} (diamond), not a corner."
    if published:
        caption += " Rings are published figures, with a dotted line to ours."
    if len(known) > len(at):
        caption += f" Of {len(known)} rows, the first {len(at)} are drawn."
    figure = points(
        at,
        x_label="error on what is forgotten (E_F)",
        y_label="accuracy on what is kept (A_R)",
        reference=reference,
        published=published,
    )
    lines = tuple((name, share(y), share(x)) for name, (x, y) in at.items())
    yield Picture("usefulness", "Forgetting against usefulness", caption, figure, ("Row", "A_R", "E_F"), lines)


def _published(plan: Plan, entry: str) -> tuple[float, float] | None:
    """Return where a publication puts an entry, if it says both numbers."""
    said = plan.published.get(entry, {})
    try:
        return float(said["E_F"].split()[0]) / 100, float(said["A_R"].split()[0]) / 100
    except (KeyError, ValueError, IndexError):  # one is missing, or stands in words
        return None


def _passed(plan: Plan, frame: pd.DataFrame) -> Iterator[Picture]:
    """Draw the share of audits passed over time, where audits could be passed: from level (b) on."""
    if "outcome" not in frame:
        return
    audited = frame[frame.level.isin(["b", "c"]) & (frame.seconds > 0)]
    at, lines = {}, []
    for name, (entry, part) in _rows(plan, audited).items():
        if len(part) and entry.method != ORIGINAL:
            passed = int((part.outcome == "alike").sum())
            at[name] = (float(part.seconds.mean()), passed / len(part))
            lines.append((name, f"{passed} of {len(part)}", duration(at[name][0])))
    if len(at) < 2:
        return
    reference = next((e.name for e in plan.methods if e.method == "retrain" and e.name in at), None)
    figure = points(
        at,
        x_label="wall time of forgetting, logarithmic",
        y_label="audits passed",
        reference=reference,
        seconds=True,
        edge=front(at),
    )
    caption = (
        "Share of audits in which no question tells a model from one retrained without the data, and no usefulness is "
        "lost, against time. The line joins the rows that no other beats in both."
    )
    head = ("Row", "Audits passed", "Wall time")
    yield Picture("passed", "Passed audits against time", caption, figure, head, tuple(lines))


def _seconds(plan: Plan, frame: pd.DataFrame) -> Iterator[Picture]:
    seconds = frame.groupby("entry", sort=False).seconds.mean().dropna()
    if len(seconds) < 2:
        return
    reference = next((e.name for e in plan.methods if e.method == "retrain"), None)
    ordered = {str(k): float(v) for k, v in seconds.sort_values().items()}
    caption = "Wall time of forgetting, mean over cells; each mark on the axis is ten times the one before."
    figure = time_bars(ordered, reference=reference)
    lines = tuple((name, duration(value)) for name, value in ordered.items())
    yield Picture("seconds", "Time", caption, figure, ("Row", "Wall time"), lines)


def _sweep(entry: Entry, cells: pd.DataFrame) -> Iterator[Picture]:
    """Draw A_R and E_F over one setting; where it has no order a table says as much."""
    (setting,) = entry.grid
    varied = column_of(setting)
    shown = {
        title: column for column, title in OVER_SETTINGS.items() if column in cells and cells[column].notna().any()
    }
    if not shown or cells[varied].nunique() < 2 or not pd.api.types.is_numeric_dtype(cells[varied]):
        return
    over = cells.groupby(varied)[list(shown.values())].agg(["mean", "std"]) / 100
    means = {title: over[column, "mean"].to_numpy() for title, column in shown.items()}
    spread = {title: over[column, "std"].fillna(0.0).to_numpy() for title, column in shown.items()}
    bands = {title: (mean - spread[title], mean + spread[title]) for title, mean in means.items()}
    values = over.index.to_numpy(float)
    figure = curves(values, means, x_label=setting, y_label="share of records", bands=bands)
    if values.min() > 0 and values.max() / values.min() > DECADES:
        figure.axes[0].set_xscale("log")
        some = values[:: -(-len(values) // MOST_TICKS)]
        figure.axes[0].set_xticks(some, [f"{v:g}" for v in some])
        figure.axes[0].minorticks_off()
    rows = tuple(
        (f"{value:g}", *(f"{share(means[t][i])} ± {share(spread[t][i])}" for t in means))
        for i, value in enumerate(values)
    )
    caption = f"{entry.name}: mean over seeds and requests; a standard deviation on both sides is shaded."
    yield Picture(_stem(entry.name), f"Over {setting}: {entry.name}", caption, figure, (setting, *means), rows)


def _maps(entry: Entry, cells: pd.DataFrame) -> Iterator[Picture]:
    down, across = entry.grid
    for column, title in OVER_SETTINGS.items():
        if column not in cells or not cells[column].notna().any():
            continue
        table = cells.pivot_table(index=column_of(down), columns=column_of(across), values=column, aggfunc="mean") / 100
        figure = heat_map(
            table.to_numpy(), list(table.columns), list(table.index), x_label=across, y_label=down, title=title
        )
        head = (f"{down} \\ {across}", *(f"{v:g}" if isinstance(v, float) else str(v) for v in table.columns))
        rows = tuple(
            (str(index), *("-" if pd.isna(v) else share(v) for v in line))
            for index, line in zip(table.index, table.to_numpy(), strict=True)
        )
        caption = f"{entry.name}: {title.lower()} over both settings, mean over seeds and requests."
        yield Picture(f"{_stem(entry.name)}-{column}", f"{title}: {entry.name}", caption, figure, head, rows)


def _courses(entry: Entry, cells: Cells) -> Iterator[Picture]:
    """Draw accuracies over the steps of forgetting: the mean of the cells that come so far, and their range."""
    kept = [c["course"] for c in cells if c.get("course")]
    if not kept:
        return
    courses = [(_places(at), known) for at, known in kept]
    places = sorted({place for own, _ in courses for place in own})
    column = {place: k for k, place in enumerate(places)}
    lines, bands = {}, {}
    for name in dict.fromkeys(name for _, known in kept for name in known):
        drawn = [dict(zip((column[p] for p in own), known.get(name, []), strict=False)) for own, known in courses]
        values = pd.DataFrame(drawn, columns=range(len(places)), dtype=float)
        lines[name] = values.mean().to_numpy()
        bands[name] = (values.min().to_numpy(), values.max().to_numpy())
    steps = [step for _, step in places]
    figure = curves(steps, lines, x_label="step", y_label="accuracy", bands=bands)
    caption = (
        f"{entry.name}: accuracy while forgetting went on, on the data that the method itself watches. Lines are means "
        f"over {len(kept)} cells, of those that come so far; shades are their range."
    )
    rows = tuple(
        (f"{at:g}", *("" if np.isnan(lines[name][i]) else share(lines[name][i]) for name in lines))
        for i, at in enumerate(steps)
    )
    yield Picture(f"{_stem(entry.name)}-steps", f"Step by step: {entry.name}", caption, figure, ("Step", *lines), rows)


def _places(steps: Sequence[float]) -> list[tuple[int, float]]:
    """Return each step with how often it came before: a method may count from 0 more than once."""
    came: Counter[float] = Counter()
    found = []
    for step in steps:
        found.append((came[step], step))
        came[step] += 1
    return found


def _classes(plan: Plan, cells: Cells) -> Iterator[Picture]:
    """Draw test accuracy by class of every row without a grid, for each request by itself."""
    rows = {e.name: e.method for e in plan.methods if not e.grid}
    for number, (request, words) in enumerate(zip(plan.requests[:MOST_REQUESTS], plan.asked(), strict=False)):
        asked = [c for c in cells if c["request"] == words and c["entry"] in rows and c.get("per_class")]
        names = list(asked[0]["per_class"]) if asked else []
        shares = {
            entry: pd.DataFrame(
                [c["per_class"] for c in asked if c["entry"] == entry], columns=names, dtype=float
            ).mean()
            for entry in rows
            if any(c["entry"] == entry for c in asked)
        }
        if not shares:
            continue
        wanted = [i for i, name in enumerate(names) if i in request.classes or name in request.classes]
        picked = _few(shares, wanted, len(names))
        drawn = {entry: list(values.iloc[picked]) for entry, values in shares.items()}
        reference = next((entry for entry in drawn if rows[entry] == "retrain"), None)
        figure = class_panels(
            [names[i] for i in picked],
            drawn,
            None if reference is None else drawn[reference],
            marked=[k for k, i in enumerate(picked) if i in wanted],
            reference_name=reference or "",
        )
        yield Picture(
            f"classes-{number + 1}",
            f"Accuracy by class: {words}",
            _of_classes(plan, request, reference, len(picked), len(names)),
            figure,
            ("Row", *names),
            tuple((e, *("-" if pd.isna(v) else share(v) for v in values)) for e, values in shares.items()),
        )


def _few(shares: Mapping[str, pd.Series], wanted: Sequence[int], n: int) -> list[int]:
    """Return the classes to draw, in order: the forgotten ones, then those on which rows differ most."""
    spread = pd.DataFrame(shares).std(axis=1).fillna(0.0).to_numpy()
    return sorted(sorted(range(n), key=lambda i: (i not in wanted, -spread[i]))[:MOST_CLASSES])


def _of_classes(plan: Plan, request: Request, reference: str | None, drawn: int, known: int) -> str:
    caption = "Test accuracy of each class, mean over seeds" + (
        "; forgotten classes in bold." if request.classes else "."
    )
    if reference:
        caption += f" Black ticks: {reference}."
    if drawn < known:
        caption += f" Of {known} classes, the {drawn} that are forgotten or differ most are drawn."
    if len(plan.requests) > MOST_REQUESTS:
        caption += f" Of {len(plan.requests)} requests, the first {MOST_REQUESTS} are drawn."
    return caption


def _stem(name: str) -> str:
    """Return a name as part of a file's."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")
