"""One benchmark: ours and the naive way, timed in turn in the same process, with the memory that ours takes."""

from __future__ import annotations

import platform
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from efface.running.machine import processor

__all__ = ["Benchmark", "machine", "measure", "peak_memory"]

_PAGE = 4096


@dataclass(frozen=True)
class Benchmark:
    """Two ways to the same result.

    A benchmark module defines `benchmarks(device)`, which yields these; `run.py` finds it by that name.

    Attributes:
        name: What is computed, on what.
        against: What the naive way is.
        ours: Runs Efface's way once and returns its result.
        naive: Runs the naive way once; or the seconds that are allowed, where a limit was set and no way to beat.
        bar: Smallest acceptable ratio (seconds of the naive way / seconds of ours); None if there is none.
        aim: The ratio hoped for.
        naive_share: The fraction of its work that `naive` does; its seconds are divided by it.
        repeats: Timed runs of each way, taken in turn; medians count. With one, the run that measures memory is timed,
            and nothing warms up.
        remark: Says more about the last result of ours, e.g. an overlap.
    """

    name: str
    against: str
    ours: Callable[[], Any]
    naive: Callable[[], Any] | float
    bar: float | None
    aim: float | None = None
    naive_share: float = 1.0
    repeats: int = 3
    remark: Callable[[Any], str] = lambda result: ""


def measure(benchmark: Benchmark, device: torch.device) -> dict[str, Any]:
    """Time both ways and return one row of the table.

    Returns:
        name, against, ratio, bar, aim, met, seconds_naive, seconds_ours (medians of wall-clock time), cpu_ratio (the
        same from processor time, which other programs disturb less), peak_memory (bytes above what was held before, of
        our way), repeats, naive_share, remark, machine.
    """
    first, (peak, result) = _timed(lambda: peak_memory(benchmark.ours, device), device)
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "naive": []}
    allowed = benchmark.naive

    def naive_way() -> tuple[float, float]:
        return _timed(allowed, device)[0] if callable(allowed) else (allowed, allowed)

    if benchmark.repeats == 1:
        times["ours"].append(first)
        times["naive"].append(naive_way())
    else:
        naive_way()
        for _ in range(benchmark.repeats):
            spent, result = _timed(benchmark.ours, device)
            times["ours"].append(spent)
            times["naive"].append(naive_way())
    ours, ours_cpu = (statistics.median(t[i] for t in times["ours"]) for i in (0, 1))
    naive, naive_cpu = (statistics.median(t[i] for t in times["naive"]) / benchmark.naive_share for i in (0, 1))
    ratio = naive / ours
    return {
        "name": benchmark.name,
        "against": benchmark.against,
        "ratio": round(ratio, 2),
        "bar": benchmark.bar,
        "aim": benchmark.aim,
        "met": None if benchmark.bar is None else ratio >= benchmark.bar,
        "seconds_naive": round(naive, 4),
        "seconds_ours": round(ours, 4),
        "cpu_ratio": round(naive_cpu / max(ours_cpu, 1e-9), 2),
        "peak_memory": peak,
        "repeats": benchmark.repeats,
        "naive_share": benchmark.naive_share,
        "remark": benchmark.remark(result),
        "machine": machine(device),
    }


def machine(device: torch.device) -> str:
    """Return the processor (or accelerator), the threads used, and the versions that matter."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return (
        f"{chip}, {torch.get_num_threads()} threads, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def _timed(way: Callable[[], Any], device: torch.device) -> tuple[tuple[float, float], Any]:
    """Run once; return the seconds of wall-clock and processor time, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = way()
    _wait(device)
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(way: Callable[[], Any], device: torch.device) -> tuple[int, Any]:
    """Run once and return the bytes taken above those held before, and the result."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = way()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before, result
    peak, done = [_resident()], threading.Event()
    before = peak[0]

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = way()
    finally:
        done.set()
        watcher.join()
    return peak[0] - before, result


def _resident() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * _PAGE if statm.exists() else 0
