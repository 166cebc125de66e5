"""What each method takes at its peak beside the model and the data, against what it states.

Run: `python benchmarks/method_memory.py [METHOD ...]`; it writes method_memory.json.

Every method forgets class 0 of the digits from a perceptron of 25 hidden layers (20 million numbers, with BatchNorm),
in a process of its own, with few epochs. The unit is P, the bytes of the model's weights. Resident memory is sampled;
small allocations are returned to the system at once (glibc's MALLOC_MMAP_THRESHOLD_), or freed blocks would count.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "method_memory.json"
WIDTH, DEPTH = 900, 24
QUICK = {"epochs": 2, "forget_epochs": 1, "steps": 2, "pseudo_batches": 3, "screen": 1.0}
"""Where a method has one of these hyper-parameters: memory does not grow with them."""


def main() -> None:
    """Measure the methods named, all by default, and write their rows; or in a child process one."""
    from efface.methods.catalogue import methods

    parser = argparse.ArgumentParser(description="Peak memory of methods, in bytes of the model's weights.")
    parser.add_argument("names", nargs="*", help="methods; all by default, and the other rows are kept")
    parser.add_argument("--here", action="store_true", help="measure the one named here and print a line of JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(_one(*options.names)))
        return
    kept = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() and options.names else []
    rows = {row["method"]: row for row in kept}
    for name in options.names or methods():
        child = subprocess.run(
            [sys.executable, __file__, "--here", name],
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            print(f"{name:18} not measured: {child.stderr.strip().splitlines()[-1]}")
            continue
        rows[name] = json.loads(child.stdout.splitlines()[-1])
        print(f"{name:18} {rows[name]['peak']:6.2f} P, stated {rows[name]['stated']}", flush=True)
        OUT.write_text(
            json.dumps([rows[n] for n in sorted(rows)], indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    print(f"Written to {OUT.name}")


def _one(name: str) -> dict[str, object]:
    from dataclasses import fields

    from measure import peak_memory
    from torch import device, nn

    import efface
    from efface.artifact.case import Case, given
    from efface.data import Split
    from efface.methods.applying import apply, prepare
    from efface.methods.catalogue import make, methods
    from efface.running.run import Run
    from efface.running.seeding import seeded
    from efface.training.loop import warm_up

    data = efface.load_data("digits")
    split = Split.of(data, efface.Request(classes=(0,)))
    with seeded(0):
        hidden = [m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())]
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), *hidden, nn.Linear(WIDTH, 10))
    kind, run, recipe = methods()[name], Run(seed=0, device="cpu"), efface.Recipe(epochs=1, batch_size=64)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    prepared = {"classes": (0,)} if name == "amnesiac" else {}
    method = make(name, {k: v for k, v in QUICK.items() if k in known} | prepared)
    artifact = prepare(method, net, split, recipe, run) if kind.needs.prepared else given(net, split, recipe, run)
    size = sum(p.numel() * p.element_size() for p in artifact.model.parameters())
    warm_up(run)  # modules that training imports late are not the method's
    gc.collect()
    peak, _ = peak_memory(lambda: apply(method, Case(artifact, split, Run(seed=1, device="cpu"))), device("cpu"))
    return {"method": name, "peak": round(peak / size, 2), "stated": kind.memory}


if __name__ == "__main__":
    main()
