"""The subcommand `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.cli.loading import progress_of
from efface.cli.options import DeviceOption, DownloadOption, JsonOption, QuietOption, RootOption, guarded
from efface.cli.outcome import say
from efface.words import counted


@guarded
def compare(
    plan: Annotated[Path, typer.Argument(help="YAML plan: data, model, recipe, requests, methods, seeds.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for results; results/NAME beside the plan by default.")
    ] = None,
    root: RootOption = None,
    download: DownloadOption = False,
    engine: Annotated[str, typer.Option("--engine", help="local or ray.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Jobs at once, with one thread each.")] = 1,
    address: Annotated[
        str | None, typer.Option("--address", help="Of a running Ray cluster; a local one is started without.")
    ] = None,
    cells: Annotated[
        Path | None, typer.Option("--cells", help="Folder of finished cells and originals, to share between plans.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore finished cells and compute all again.")] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Compute nothing; write tables and figures of what is finished.")
    ] = False,
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
        engine=engine,  # type: ignore[arg-type]  # checked there, with the names that are allowed
        workers=workers,
        address=address,
        cells=cells,
        table=table,
        progress=progress_of(quiet),
    )
    if as_json:
        typer.echo(result.to_json())
    else:
        result.show()
    if result.reused:
        say(
            f"{result.reused} of {counted(len(result.frame), 'cell was', 'cells were')} finished before; "
            "--fresh computes all again",
            err=True,
        )
    for file in result.files:
        typer.echo(f"written: {file}", err=as_json)
