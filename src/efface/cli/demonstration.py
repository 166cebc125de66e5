"""The demonstration: digits, one class forgotten in two ways, two reports."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.artifact.artifact import foreign_to_artifact
from efface.auditing.result import Audit
from efface.data import load
from efface.files import new_folder
from efface.models.spec import ModelSpec
from efface.report import write
from efface.report.console import show
from efface.request import Request
from efface.running.progress import Progress
from efface.training.recipe import Recipe
from efface.verbs.audit import audit
from efface.verbs.forget import forget
from efface.verbs.train import train

__all__ = ["Demo", "run_demo"]

FORGOTTEN = 3

MODELS = ("original", "retrained", "mnemonic", "decay")
"""Names of the folders that the demo's folder holds."""

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
        for name, found in self.audits.items():
            print(f"\n{name}")
            show(found)
        print(f"\ndone in {self.seconds:.0f} s")
        for name, path in self.reports.items():
            print(f"report ({name}): {path}")

    def as_json(self) -> dict[str, Any]:
        """Return the audits and paths as plain values."""
        return {
            "seconds": self.seconds,
            "reports": {name: str(path) for name, path in self.reports.items()},
            "audits": {name: json.loads(found.to_json()) for name, found in self.audits.items()},
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
    with new_folder(out, overwrite, _foreign) as folder:
        original = train(MODEL, data, method="mnemonic", recipe=RECIPE, **shared)
        original.save(folder / "original")
        retrained = forget(original, data, request, method="retrain", **shared)
        retrained.save(folder / "retrained")
        forgotten = {
            "mnemonic": forget(original, data, request, method="mnemonic", settings={"search": True}, **shared),
            "decay": forget(original, data, request, method="decay", **shared),
        }
        audits = {}
        for name, artifact in forgotten.items():
            artifact.save(folder / name)
            others = {n: a for n, a in forgotten.items() if n != name}
            audits[name] = audit(artifact, data, retrained=retrained, others=others, **shared)
            write(audits[name], artifact.record, folder / name)
    reports = {name: Path(out) / name / "report.html" for name in forgotten}
    return Demo(audits, reports, time.perf_counter() - started)


def _foreign(folder: Path) -> list[str]:
    """Return the paths in a folder that a demo does not write."""
    models = [folder / name for name in MODELS if (folder / name).is_dir()]
    others = [p.name for p in folder.iterdir() if p not in models]
    return others + [f"{model.name}/{name}" for model in models for name in foreign_to_artifact(model)]
