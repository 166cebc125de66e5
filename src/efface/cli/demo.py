"""The subcommand `demo`: a minute on handwritten digits, no network."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from efface.cli.loading import progress_of
from efface.cli.options import DeviceOption, JsonOption, OutOption, OverwriteOption, QuietOption, guarded

__all__ = ["demo"]


@guarded
def demo(
    out: OutOption = Path("demo"),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on handwritten digits, forget one class in two ways, audit both: a minute, no network."""
    from efface.cli.demonstration import run_demo

    result = run_demo(out, overwrite=overwrite, device=device, progress=progress_of(quiet))
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        result.show()
