"""Write docs/results.md of experiments/published.yaml and the committed results; `--check` says if it is current.

No figure is typed: published ones stand in experiments/published.yaml with their source, ours in experiments/results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import yaml
from generated import ROOT, settle

from efface.methods.catalogue import describe

PAGE = ROOT / "docs" / "results.md"
EXPERIMENTS = ROOT / "experiments"
RESULTS = EXPERIMENTS / "results"
COLUMNS = ("A_R", "E_F")
NEAR = 2.0
"""Points within which a figure is said to agree."""
PROTOCOL = (
    "The paper trains ImageNet networks plainly, fine-tunes codes in, and forgets. Ours does the same on digits "
    "([prepared.py](../experiments/prepared.py)), so that the order of the rows can be compared, not their figures."
)
CONTROLS = "Three originals and many draws of random units ([reasons.py](../experiments/reasons.py))."
HEAD = """\
# Published figures and ours

<!-- Written by docs/results.py. -->

The published figures stand in [published.yaml](../experiments/published.yaml), ours in the results of
[experiments](../experiments/README.md).

A_R is accuracy on test images of the kept classes, E_F error on those of the forgotten class, in %. Ours are means
over the committed cells, with the deviation where there are several. Published networks trained longer than ours: what
an A_R can be compared with is the line of our original. "Small" is what `make reproduce-small` computes: fewer epochs,
one seed, one class.

`make reproduce DATA=FOLDER` computes our columns, `make reproduce-small DATA=FOLDER` the small ones; FOLDER holds
MNIST/raw and CIFAR10. Both keep what is finished and go on there when they are started again.
"""


def cells_of(plan: str) -> pd.DataFrame | None:
    """Return a plan's committed cells; None if there are none."""
    file = RESULTS / plan / "results.csv"
    return pd.read_csv(file) if file.is_file() else None


def number(value: float, spread: float = float("nan")) -> str:
    """Return a figure with its deviation, if there is one."""
    if pd.isna(value):
        return "-"
    return f"{value:.1f}" if pd.isna(spread) else f"{value:.1f} ± {spread:.1f}"


def row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def header(*cells: str) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [row(cells), "|" + "---|" * len(cells)]


def ours(cells: pd.DataFrame | None, entry: str, column: str) -> tuple[float, str, int]:
    """Return an entry's mean over the cells, how it is printed, and of how many cells it is."""
    values = pd.Series(dtype=float) if cells is None else cells.loc[cells.entry == entry, column].dropna()
    return float(values.mean()), number(values.mean(), values.std()), len(values)


def agreement(gaps: Mapping[str, list[float]]) -> str:
    """Say in how many rows our figure lies near the published one."""
    parts = []
    for column, found in gaps.items():
        near = sum(abs(g) <= NEAR for g in found)
        parts.append(f"{column} lies within {NEAR:g} points of the published figure in {near} of {len(found)} rows")
    return "; ".join(parts) + "."


def table(published: Mapping[str, Any]) -> Iterator[str]:
    """Yield the section of one published table."""
    plan = published["plan"]
    cells, small = cells_of(plan), cells_of(f"{plan}_small")
    yield from (f"## {published['title']}", "", f"Source: {published['source']}.", "", published["note"].strip(), "")
    yield f"Plan: [{plan}.yaml](../experiments/{plan}.yaml); " + (
        "not computed yet." if cells is None else f"all rows: [table](../experiments/results/{plan}/table.md)."
    )
    if published["small_epochs"]:
        yield f"Originals of the small version train for at most {published['small_epochs']} epochs."
    yield ""
    titles = [f"{c}, {which}" for c in COLUMNS for which in ("published", "ours", "difference", "small")]
    yield from header("row", *titles, "cells")
    gaps: dict[str, list[float]] = {c: [] for c in COLUMNS}
    for entry in dict.fromkeys(["original", *published["rows"]]):
        figures = published["rows"].get(entry, {})
        line, count = [entry], 0
        for column in COLUMNS:
            mean, printed, count = ours(cells, entry, column)
            stated = str(figures.get(column, "-"))
            gap = mean - float(stated.split()[0]) if stated != "-" else float("nan")
            if not pd.isna(gap):
                gaps[column].append(gap)
            line += [stated, printed, "-" if pd.isna(gap) else f"{gap:+.1f}", ours(small, entry, column)[1]]
        yield row([*line, str(count)])
    yield ""
    if any(gaps.values()):
        yield from (agreement(gaps), "")


def maps(figure: Mapping[str, Any]) -> Iterator[str]:
    """Yield the section of one network's maps over both step sizes."""
    plan = figure["plan"]
    cells = cells_of(plan)
    yield from (f"## {figure['title']}", "")
    if cells is None:
        yield from (f"Plan: [{plan}.yaml](../experiments/{plan}.yaml); not computed yet.", "")
        return
    original = cells.loc[cells.entry == "original", "A_R"].mean()
    grid = cells[cells.entry != "original"]
    good = grid[(grid.E_F >= 99) & (original - 1 <= grid.A_R)]
    yield (
        f"Class 0, one seed: of {len(grid)} pairs of λ_1 and λ_2, {len(good)} forget at least 99 % of the class and "
        f"keep A_R within a point of the original's {original:.1f} % "
        f"([table](../experiments/results/{plan}/table.md)). The "
        "published maps are pictures, so that only their look can be compared."
    )
    yield ""
    for column in COLUMNS:
        yield f"![{column} over both step sizes](../experiments/results/{plan}/mnemonic-{column}.png)"
    yield ""


def needs(published: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the section on needs and cost: published, by our classes, and measured."""
    cells = cells_of("mnist_mlp_methods")
    known = {r["name"]: r for r in describe()}
    yield from ("## Mnemonic code, Table 1 and Figure 3: what methods need and how long they take", "")
    yield (
        "Published on the left; then what our classes declare (data that a method does not declare raises when "
        "touched), and the median time as a share of retraining's for the same request and seed "
        "(`mnist_mlp_methods`; certified removal serves items)."
    )
    yield ""
    yield from header(
        "published name", "time", "data-free", "target", "ours", "time by its class", "reads", "target", "of retraining"
    )
    for name, said in published.items():
        mine = known[name]
        shares = pd.Series(dtype=float) if cells is None else cells.loc[cells.method == name, "of_retrain"].dropna()
        yield row(
            [
                *(said[k] for k in ("name", "time", "data_free", "target")),
                f"`{name}`",
                mine["cost"],
                ", ".join(mine["reads"]) or "nothing",
                ", ".join(mine["targets"]),
                "-" if shares.empty else f"{shares.median():.3g} %",
            ]
        )
    yield from ("", "Seconds of every method, as in Figure 3:", "")
    yield from ("![Seconds of each method](../experiments/results/mnist_mlp_methods/seconds.png)", "")


def part(file: str, title: str) -> Iterator[str]:
    """Yield one section of a table that a script wrote, without its heading."""
    text = (RESULTS / file).read_text(encoding="utf-8")
    yield from (text.partition(f"## {title}")[2].partition("\n")[2].partition("\n## ")[0].strip(), "")


def minutes(plan: str) -> float:
    """Return how long a plan's committed cells took to train, to forget, and to retrain for as long."""
    cells = cells_of(plan)
    if cells is None:
        return float("nan")
    trained = cells.drop_duplicates(["seed", "train_seconds"]).train_seconds.sum()
    again = cells.as_long_seconds.sum() if "as_long_seconds" in cells else 0.0
    return float(cells.seconds.sum() + trained + again) / 60


def times(tables: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the plans took, as their cells say."""
    yield (
        "Minutes of one thread on a machine that others used too, without the measuring: training, forgetting, and, in "
        "tables made since it is measured, retraining for as long."
    )
    yield ""
    yield from header("plan", "minutes", "minutes, small")
    for plan in dict.fromkeys(t["plan"] for t in tables):
        yield row([f"`{plan}`", *(number(minutes(p)) for p in (plan, f"{plan}_small"))])
    yield ""


def page() -> str:
    """Return the page."""
    published = yaml.safe_load((EXPERIMENTS / "published.yaml").read_text(encoding="utf-8"))
    tables = published["tables"]
    talks: dict[str, list[str]] = {"mnemonic": [], "decay": []}
    for one in tables:
        talks[one["talk"]] += table(one)
    lines = [HEAD, *times([*tables, *published["figures"]]), *talks["mnemonic"]]
    lines += needs(published["needs"])
    for figure in published["figures"]:
        lines += maps(figure)
    lines += ["## Mnemonic code, Table 4: codes fine-tuned into a trained model", "", PROTOCOL, ""]
    lines += part("prepared/table.md", "Codes fine-tuned into a trained model")
    lines += [*talks["decay"], "### Its controls without fine-tuning", "", CONTROLS, ""]
    lines += [(RESULTS / "reasons" / "table.md").read_text(encoding="utf-8").partition("\n")[2].strip(), ""]
    return "\n".join(lines)


def main() -> None:
    """Write the page, or with --check exit with status 1 if it is not current."""
    settle({PAGE: page()})


if __name__ == "__main__":
    main()
