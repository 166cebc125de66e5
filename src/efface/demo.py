"""The demo: a real model forgets a handwritten digit by mnemonic code and by decay, beside a retrained model."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface import verbs
from efface.auditing.result import Audit
from efface.data import load
from efface.folder import new_folder
from efface.models.spec import ModelSpec
from efface.report import write
from efface.report.console import show
from efface.request import Request
from efface.run import Progress
from efface.training import Recipe

__all__ = ["Demo", "run_demo"]

FORGOTTEN = 3
RECIPE = Recipe(lr=0.05, epochs=60, batch_size=64)
MODEL = ModelSpec(build="mlp", arguments={"hidden": [128]})


@dataclass
class Demo:
    """What the demo made.

    Attributes:
        audits: By method.
        reports: Path of each method's report.html.
        seconds: Wall time of everything.
    """

    audits: dict[str, Audit]
    reports: dict[str, Path]
    seconds: float

    def show(self) -> None:
        """Print the table, both verdicts, and where the reports are."""
        for name, audit in self.audits.items():
            print(f"\n{name}")
            show(audit)
        print(f"\ndone in {self.seconds:.0f} s")
        for name, path in self.reports.items():
            print(f"report ({name}): {path}")

    def as_json(self) -> dict[str, Any]:
        """Return the audits and paths as plain values."""
        return {
            "seconds": self.seconds,
            "reports": {name: str(path) for name, path in self.reports.items()},
            "audits": {name: json.loads(audit.to_json()) for name, audit in self.audits.items()},
        }


def run_demo(
    out: str | Path = "demo", *, overwrite: bool = False, device: str = "auto", progress: Progress | None = None
) -> Demo:
    """Train with codes on scikit-learn's digits, forget one class in two ways, audit both at level (b).

    Args:
        out: Folder to make, with sub-folders original, retrained, mnemonic and decay.
        overwrite: Replace the folder if it exists.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

    Raises:
        InputError: The folder exists and may not be replaced.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    shared: dict[str, Any] = {"device": device, "progress": progress}
    data = load("digits")
    request = Request(classes=(FORGOTTEN,), reason="demonstration")
    with new_folder(out, overwrite) as folder:
        original = verbs.train(MODEL, data, method="mnemonic", recipe=RECIPE, **shared)
        original.save(folder / "original")
        retrained = verbs.forget(original, data, request, method="retrain", **shared)
        retrained.save(folder / "retrained")
        forgotten = {
            "mnemonic": verbs.forget(original, data, request, method="mnemonic", settings={"search": True}, **shared),
            "decay": verbs.forget(original, data, request, method="decay", **shared),
        }
        audits = {}
        for name, artifact in forgotten.items():
            artifact.save(folder / name)
            others = {n: a for n, a in forgotten.items() if n != name}
            audits[name] = verbs.audit(artifact, data, retrained=retrained, others=others, **shared)
            write(audits[name], artifact.record, folder / name)
    reports = {name: Path(out) / name / "report.html" for name in forgotten}
    return Demo(audits, reports, time.perf_counter() - started)
