"""The subcommand `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.cli.options import DeviceOption, DownloadOption, JsonOption, QuietOption, RootOption, guarded, progress_of


@guarded
def compare(
    plan: Annotated[Path, typer.Argument(help="YAML plan: data, model, recipe, requests, methods, seeds.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for results; results/NAME beside the plan by default.")
    ] = None,
    root: RootOption = None,
    download: DownloadOption = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes with one thread each.")] = 1,
    cells: Annotated[
        Path | None, typer.Option("--cells", help="Folder of finished cells and originals, to share between plans.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore finished cells and compute all again.")] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a grid of methods, requests and seeds from a plan; finished cells are kept, so it can be resumed."""
    from efface.verbs.compare import compare as run_plan

    result = run_plan(
        plan,
        out=out,
        root=root,
        download=download,
        fresh=fresh,
        device=device,
        workers=workers,
        cells=cells,
        progress=progress_of(quiet),
    )
    if as_json:
        typer.echo(result.to_json())
    else:
        result.show()
    for file in result.files:
        typer.echo(f"written: {file}", err=as_json)
