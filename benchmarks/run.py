"""Run every benchmark of this folder, print the table, and write results.json beside this file.

    python benchmarks/run.py [--device cuda] [--only MODULE] [--named WORDS] [--out FILE]

With --only or --named, the other rows stay as they are in results.json. A benchmark is any module here with a
function `benchmarks(device)` that yields `measure.Benchmark`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measure import measure
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="Speed and memory of Efface against the naive way, in one run.")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--only", default="", help="only this file, e.g. fisher; other results are kept")
    parser.add_argument("--named", default="", help="only benchmarks with these words in their name, e.g. LeNet-5")
    parser.add_argument(
        "--out", type=Path, default=None, help="where to write; default results.json or results-cuda.json"
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device is visible to torch")
    out = options.out or HERE / ("results.json" if device.type == "cpu" else f"results-{device.type}.json")
    console = Console(width=None if sys.stdout.isatty() else 200)  # a narrow pipe would break the table into letters
    rows, start = [], time.perf_counter()
    for module in _modules(options.only):
        for benchmark in module.benchmarks(device):
            if options.named not in benchmark.name:
                continue
            console.print(f"[dim]{benchmark.name} against {benchmark.against}[/dim]", highlight=False)
            try:
                rows.append(measure(benchmark, device))
            except torch.OutOfMemoryError as error:
                console.print(f"skipped, the device lacks memory: {error}", highlight=False)
    if not rows:
        parser.error(f"--named {options.named}: no benchmark's name holds these words")
    console.print(_table(rows))
    console.print(f"{len(rows)} benchmarks in {time.perf_counter() - start:.0f} s on {rows[0]['machine']}")
    if (options.only or options.named) and out.exists():
        rows = _updated(json.loads(out.read_text(encoding="utf-8")), rows)
    out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"Written to {out.name}")


def _updated(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of an earlier run with those measured now in their places, new ones last."""
    now = {(row["name"], row["against"]): row for row in rows}
    kept = [now.pop((row["name"], row["against"]), row) for row in before]
    return [*kept, *now.values()]


def _modules(only: str) -> list[Any]:
    names = [info.name for info in pkgutil.iter_modules([str(HERE)]) if info.name != "run"]
    if only and only not in names:
        raise SystemExit(f"--only {only}: there is no such file. Allowed: {', '.join(names)}")
    found = [importlib.import_module(name) for name in names if only in ("", name)]
    return [module for module in found if hasattr(module, "benchmarks")]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Seconds of the naive way / seconds of ours (medians)")
    for column in ("what", "against", "ratio", "bar", "naive s", "ours s", "CPU ratio", "peak MB", "remark"):
        table.add_column(column, justify="left" if column in ("what", "against", "remark") else "right")
    for row in rows:
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        colour = {True: "green", False: "red", None: "white"}[row["met"]]
        table.add_row(
            row["name"],
            row["against"],
            f"[{colour}]{row['ratio']:.2f}[/{colour}]",
            bar,
            f"{row['seconds_naive']:.3f}",
            f"{row['seconds_ours']:.3f}",
            f"{row['cpu_ratio']:.2f}",
            f"{row['peak_memory'] / 1e6:.0f}",
            row["remark"],
        )
    return table


if __name__ == "__main__":
    main()
