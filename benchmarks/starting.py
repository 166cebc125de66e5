"""How long a user waits before anything happens: importing the package, and `efface --help`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import torch
from measure import Benchmark

__all__ = ["benchmarks"]


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    """Yield both, each in a new process; wall-clock times, as processes of their own have their own processor time."""
    if device.type != "cpu":
        return
    torch_alone = _started("import torch")
    yield Benchmark(
        "import efface, new process", "import torch", _started("import efface"), torch_alone, 5.0, repeats=3
    )
    helped = _started("import sys; sys.argv = ['efface', '--help']; from efface.cli import main; main()")
    yield Benchmark("efface --help, new process", "import torch", helped, torch_alone, 1.5, repeats=3)


def _started(code: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    return run
