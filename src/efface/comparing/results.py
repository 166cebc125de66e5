"""Results of a comparison: one CSV row per cell, and a table of means beside published figures."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t as student

from efface.comparing.as_long import COLUMNS as AS_LONG
from efface.comparing.as_long import as_long_columns, as_long_table
from efface.comparing.columns import COLUMNS
from efface.comparing.figures import draw, pictures
from efface.comparing.grouped import by_row, column_of
from efface.comparing.own import own_measures
from efface.comparing.page import html
from efface.comparing.plan import Plan
from efface.errors import InputError
from efface.files import read, write_file
from efface.notebook import card
from efface.report.console import print_table

__all__ = ["Comparison"]

COLUMN_NAMES = tuple(c.name for c in COLUMNS)

MEANING = {c.name: c.meaning for c in COLUMNS} | {
    "seconds": "wall time of forgetting",
    "of_retrain": "the same as a share of retraining's for the same request and seed, %",
    "samples": "thousands of training samples read by forgetting, each reading counted",
    "peak_memory": "most memory that forgetting held above what was held before, MiB (on a CPU sampled)",
}

WORDS = ("entry", "method", "request")
"""Columns of results.csv that hold names, whatever these look like."""

SCALES = {"samples": 1000, "peak_memory": 2**20}
"""Counts of a cell, and what the table divides them by."""

MASK = "logit-mask"

WIDE = 10
"""Points of standard deviation, and from the median, from which cells are named."""

FIELDS = (
    ("value", "low", "high", "original", "reference", "floor", "floor_low", "floor_high", "gap", "gap_low", "gap_high"),
    ("bound", "why"),
)
"""Of a score: numbers, and words."""


@dataclass(repr=False)
class Comparison:
    """A finished grid.

    Attributes:
        plan: What was compared.
        frame: One row per cell.
        scores: One row per cell and score, with what is needed to read it.
        machine: What the cells were computed on.
        kept: The cells with what a table has no room for: test accuracy by class, accuracies over steps.
        reused: How many cells were finished before.
        files: What `write` wrote.

    Example:
        >>> import efface, tempfile
        >>> plan = efface.Plan(
        ...     name="small",
        ...     data={"source": "digits"},
        ...     model={"build": "mlp"},
        ...     recipe={"lr": 0.1, "epochs": 1, "batch_size": 64},
        ...     requests=[{"classes": [3]}],
        ...     methods=[{"method": "logit-mask"}],
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = efface.compare(plan, out=folder)
        ...     again = efface.Comparison.read(folder)
        >>> float(again.frame["E_F"][0])
        100.0
    """

    plan: Plan
    frame: pd.DataFrame
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    machine: str = ""
    kept: list[dict[str, Any]] = field(default_factory=list)
    reused: int = 0
    files: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan, rows: list[dict[str, Any]]) -> Comparison:
        """Collect the cells' results in a frame."""
        flat = []
        shown = [*COLUMN_NAMES, *(m.name for m in own_measures(plan.measures))]
        for row in rows:
            varied = {
                column_of(k): v
                for e in plan.methods
                if e.name == row["entry"]
                for k, v in row["settings"].items()
                if k in e.grid
            }
            flat.append(
                {k: row[k] for k in ("entry", "method", "request", "seed")}
                | varied
                | {name: row["scores"][name].get("value") for name in shown if name in row["scores"]}
                | {k: row[k] for k in ("seconds", "train_seconds")}
                | {k: _scaled(row.get(k), by) for k, by in SCALES.items()}
                | as_long_columns(row.get("as_long"))
                | {k: row[k] for k in ("level", "outcome", "useful") if k in row}
                | {"bounds": _bounds(row["scores"]), "refused": row["refused"], "notes": " | ".join(row["notes"])}
            )
        frame = pd.DataFrame(flat)
        retrained = frame[frame.method == "retrain"].groupby(["request", "seed"]).seconds.first().rename("full")
        if len(retrained):
            full = frame.join(retrained, on=["request", "seed"]).full
            frame.insert(list(frame.columns).index("seconds") + 1, "of_retrain", 100 * frame.seconds / full)
        machine = _in_words(Counter(_where(row) for row in rows if "device" in row))
        return cls(plan, frame, _long(rows), machine, rows)

    @classmethod
    def read(cls, folder: str | Path) -> Comparison:
        """Read what `write` wrote, without the cells themselves: no test accuracy by class, no accuracies over steps.

        Raises:
            InputError: plan.json is missing or is no plan.
        """
        folder = Path(folder)
        plan = read(folder / "plan.json", Plan)
        if not (folder / "results.csv").is_file():
            raise InputError(f"{folder} holds no results.csv; `efface compare PLAN --out {folder}` writes it")
        frame = pd.read_csv(folder / "results.csv")
        names = pd.read_csv(folder / "results.csv", usecols=WORDS, dtype=str, keep_default_na=False)
        frame[list(WORDS)] = names[list(WORDS)]  # a label may be `1` or `NA`
        for name in ("bounds", "refused", "notes", "as_long"):  # what earlier versions did not write is empty
            frame[name] = frame[name].astype(object).fillna("").astype(str) if name in frame else ""
        for name in AS_LONG:
            frame[name] = frame.get(name, float("nan"))
        packed = folder / "results.parquet"
        return cls(plan, frame, pd.read_parquet(packed) if packed.is_file() else pd.DataFrame())

    def __repr__(self) -> str:
        """Return one line: what was compared, and how far it came."""
        entries, cells = self.frame.entry.nunique(), len(self.frame)
        failed = int((self.frame.refused != "").sum())
        said = f"{entries} methods, {len(self.plan.requests)} requests, {len(self.plan.seeds)} seeds; {cells} cells"
        return f"<Comparison {self.plan.name!r}: {said}{f', {failed} refused or failed' if failed else ''}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table of means."""
        facts = {"mean ± standard deviation": "over seeds" + " and requests" * (len(self.plan.requests) > 1)}
        return card(f"Comparison {self.plan.name}", facts, self.table_rows(by_request=False))

    @property
    def columns(self) -> list[str]:
        """The measured columns, in order."""
        return [c for c in self.meaning if c in self.frame]

    @property
    def meaning(self) -> dict[str, str]:
        """What each column is, in order."""
        return MEANING | {m.name: m.meaning for m in own_measures(self.plan.measures)}

    def summary(self, *, by_request: bool) -> pd.DataFrame:
        """Return mean and standard deviation (n - 1) over seeds, and over requests unless kept apart.

        Args:
            by_request: One row per method and request, instead of one per method.
        """
        order = [e.name for e in self.plan.methods]
        grids = list(dict.fromkeys(column_of(k) for e in self.plan.methods for k in e.grid))
        keys = ["entry", *grids, *(["request"] if by_request else [])]
        grouped = self.frame.groupby(keys, sort=False, dropna=False)[self.columns].agg(["mean", "std", "count"])
        return (
            grouped.sort_index(level="entry", key=lambda i: i.map(order.index), sort_remaining=False)
            if len(keys) > 1
            else grouped.loc[order]
        )

    def to_frame(self, *, by_request: bool = False) -> pd.DataFrame:
        """Return the table of means as a pandas table: for each column `mean`, `std` and `count`; see `summary`.

        `frame` has every cell, `scores` every cell's every score with interval and floor.
        """
        return self.summary(by_request=by_request)

    def to_latex(self, *, by_request: bool = False) -> str:
        """Return the table of means as LaTeX for the package booktabs: mean ± standard deviation.

        Args:
            by_request: One row per method and request, instead of one per method.
        """
        header, *rows = [[_latex(cell) for cell in row] for row in self.table_rows(by_request=by_request)]
        return pd.DataFrame(rows, columns=header).to_latex(
            index=False, escape=False, column_format="l" + "r" * (len(header) - 1)
        )

    def markdown(self) -> str:
        """Return the tables as Markdown."""
        plan = self.plan
        lines = [f"# {plan.name}", "", plan.about, ""] if plan.about else [f"# {plan.name}", ""]
        lines += [
            f"Data {plan.data.source}, model {plan.model.build} {plan.model.arguments or ''}, recipe: "
            f"{plan.recipe.optimiser} lr {plan.recipe.lr:g}, {plan.recipe.epochs:g} epochs, batch "
            f"{plan.recipe.batch_size}, held out {plan.data.validation:g}; seeds {', '.join(map(str, plan.seeds))}; "
            f"{len(plan.requests)} request(s).",
            f"Machine: {self.machine}.",
            "",
            *(f"- **{c}**: {self.meaning[c]}" for c in self.columns),
            "",
        ]
        many_requests = len(plan.requests) > 1
        lines += ["Mean ± standard deviation over seeds" + (" and requests." if many_requests else "."), ""]
        lines += [self._table(by_request=False), "", *(x for r in self.remarks() for x in (r, ""))]
        lines += as_long_table(self._rows())
        if many_requests and not any(e.grid for e in plan.methods):
            lines += ["By request, mean ± standard deviation over seeds.", "", self._table(by_request=True), ""]
        lines += self._scattered()
        refused = self.frame[self.frame.refused != ""]
        if len(refused):
            lines += ["Cells that a method refused, or that failed; they count in no mean:", ""]
            for (entry, why), group in refused.groupby(["entry", "refused"], sort=False):
                cells = ", ".join(f"{r.request} seed {r.seed}" for r in group.itertuples())
                lines.append(f"- {entry} ({cells}): {why}")
            lines.append("")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the cells as JSON records."""
        return str(self.frame.to_json(orient="records", indent=2))

    def write(self, folder: Path) -> None:
        """Write results.csv, results.parquet, table.md, comparison.html, plan.json and the figures into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        packed, found = io.BytesIO(), pictures(self.plan, self.frame, self.kept)
        self.scores.to_parquet(packed, index=False)
        self.files = [
            write_file(folder / "results.csv", self.frame.to_csv(index=False, float_format="%.6g")),
            write_file(folder / "results.parquet", packed.getvalue()),
            write_file(folder / "table.md", self.markdown()),
            write_file(folder / "plan.json", self.plan.model_dump_json(indent=2)),
            write_file(folder / "comparison.html", html(self, found)),
            *draw(found, folder),
        ]

    def show(self) -> None:
        """Print the summary on stdout."""
        from rich.markup import escape
        from rich.table import Table

        header, *rows = self.table_rows(by_request=False)
        table = Table(title=self.plan.name, header_style="bold")
        for name, *cells in zip(header, *rows, strict=True):
            if name in {"method", "request"}:
                table.add_column(name)
            else:
                table.add_column(name, justify="right", min_width=max(map(len, cells), default=0))
        for row in rows:
            table.add_row(*map(escape, row))
        print_table(table)

    def table_rows(self, *, by_request: bool) -> list[list[str]]:
        """Return the table as text, header first: means and deviations, published figures beside them."""
        published = self.plan.published if not by_request else {}
        shown = [c for c in self.columns if any(c in p for p in published.values())]
        summary = self.summary(by_request=by_request)
        names = [str(n) for n in summary.index.names]
        bounded = self.frame.groupby(names, sort=False, dropna=False).bounds.agg("; ".join).reindex(summary.index)
        header = ["method" if n == "entry" else n for n in names]
        for column in self.columns:
            header += [column, f"{column} published"] if column in shown else [column]
        rows: list[list[str]] = [header]
        for (index, values), bounds in zip(summary.iterrows(), bounded, strict=True):
            keys = index if isinstance(index, tuple) else (index,)
            cells: list[str] = ["" if pd.isna(k) else f"{k:g}" if isinstance(k, float) else str(k) for k in keys]
            for column in self.columns:
                mean = _spread(values[column, "mean"], values[column, "std"])
                cells.append(_sign(column, bounds) + mean)
                if column in shown:
                    cells.append(published.get(str(keys[0]), {}).get(column, ""))
            rows.append(cells)
        return rows

    def remarks(self) -> list[str]:
        """Return what stands below the table, in sentences."""
        signs = "≥, ≤: some cells are only bounds (a cap was reached), and so is their mean; ≷: on both sides."
        return [*([signs] if any(self.frame.bounds) else []), *self._beyond_mask()]

    def _rows(self) -> dict[str, pd.DataFrame]:
        """Return the cells of every row of the table by its name."""
        return {name: cells for name, (_, cells) in by_row(self.plan, self.frame).items()}

    def _beyond_mask(self) -> list[str]:
        """Say which rows' features hold less of the class than those of the original, whose logit is masked.

        Pairs with the logit mask of the same request and seed; with two pairs or more, Student's interval of the mean
        difference.
        """
        masked = self.frame[self.frame.method == MASK]
        if "probe" not in self.frame or masked.empty:
            return []
        mask = masked.groupby(["request", "seed"]).probe.first().rename("mask")
        found, pairs = [], 0
        for name, cells in self._rows().items():
            gaps = (cells.probe - cells.join(mask, on=["request", "seed"])["mask"])[cells.method != MASK].dropna()
            if len(gaps) < 2:
                continue
            pairs = max(pairs, len(gaps))
            half = float(student.ppf(0.975, len(gaps) - 1) * gaps.std() / len(gaps) ** 0.5)
            if gaps.mean() + half < 0:
                found.append(f"{name} ({gaps.mean():.1f} ± {half:.1f})")
        if not pairs:
            return []
        lower = f"{', '.join(found)}; of no other is" if found else "of none is"
        return [
            "Probe below the logit mask's, paired by request and seed (mean gap in points and its 95 % interval; "
            f"at most {pairs} pairs): {lower} it shown that it forgets more than a mask does.",
        ]

    def _scattered(self) -> list[str]:
        """Say which cells make a wide spread, with what their methods noted."""
        lines = []
        for name, row in self._rows().items():
            for column in ("A_R", "E_F"):
                if column not in row or not row[column].std() > WIDE:
                    continue
                far = row[(row[column] - row[column].median()).abs() > WIDE]
                cells = "; ".join(
                    f"{cell[column]:.1f} ({cell['request']}, seed {cell['seed']}"
                    + (f": {cell['notes']})" if cell["notes"] else ")")
                    for _, cell in far.iterrows()
                )
                lines.append(f"- {name}, {column}: median {row[column].median():.1f}; far from it: {cells}")
        return [f"Where a deviation is above {WIDE} points, these cells make it:", "", *lines, ""] if lines else []

    def _table(self, *, by_request: bool) -> str:
        header, *rows = self.table_rows(by_request=by_request)
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _long(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per cell and score; a cell without scores has one row with the reason."""
    found = []
    for row in rows:
        known = {k: row[k] for k in ("entry", "method", "request", "seed")}
        known |= {"settings": json.dumps(row["settings"], sort_keys=True), "refused": row["refused"]}
        known |= {
            k: row.get(k)
            for k in (
                "seconds",
                "train_seconds",
                "samples",
                "peak_memory",
                "level",
                "outcome",
                "useful",
                "device",
                "threads",
                "machine",
            )
        }
        known |= {k: row.get("versions", {}).get(k) for k in ("efface", "python", "torch")}
        for name, score in (row["scores"] or {"": {}}).items():
            numbers = {k: score.get(k) for k in FIELDS[0]}
            found.append(known | {"score": name} | numbers | {k: score.get(k, "") for k in FIELDS[1]})
    types = dict.fromkeys((*FIELDS[0], "seconds", "train_seconds"), "float64")
    types |= dict.fromkeys(("threads", "samples", "peak_memory"), "Int64")
    return pd.DataFrame(found).astype(types)


def _scaled(count: int | None, by: int) -> float | None:
    return None if count is None else count / by


def _spread(mean: float, std: float) -> str:
    if pd.isna(mean):
        return "-"
    digits = 1 if abs(mean) >= 1 else 3
    return f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def _bounds(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which columns of a cell are only bounds, on which side."""
    names = [name for name in COLUMN_NAMES if scores.get(name, {}).get("bound")]
    return "; ".join(f"{name} {scores[name]['bound']}" for name in names)


def _sign(column: str, bounds: str) -> str:
    """Return what stands before a mean of which some values are only bounds."""
    below, above = (f"{column} {side}" in bounds.split("; ") for side in ("at least", "at most"))
    return "≷ " if below and above else "≥ " if below else "≤ " if above else ""


LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "≷": r"$\gtrless$"}
)
"""Characters that mean something to LaTeX, or that it has no plain letter for."""


def _latex(text: str) -> str:
    return text.translate(LATEX)


def _where(row: Mapping[str, Any]) -> str:
    """Return what a cell was computed on."""
    threads = f"{row['threads']} threads" if "threads" in row else "threads not recorded"
    return ", ".join([row["device"], threads, *(f"{k} {v}" for k, v in row["versions"].items())])


def _in_words(counts: Counter[str]) -> str:
    """Return each machine with its number of cells, if there are several."""
    several = len(counts) > 1
    return "; ".join(f"{where} ({n} cells)" if several else where for where, n in counts.most_common())
