"""The command line: one thin subcommand per verb, with the same name and the same arguments.

Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted. Results go to stdout, progress and errors to stderr.
Nothing heavy is imported before a subcommand runs, so that `efface --help` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from efface import __version__
from efface.cli_options import (
    ClassesOption,
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    GroupsOption,
    ItemsOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    QuietOption,
    ReasonOption,
    RequestOption,
    RootOption,
    SetOption,
    TrustOption,
    WhereOption,
    data_of,
    finish,
    guarded,
    load_artifact,
    pairs,
    progress_of,
    request_of,
)
from efface.cli_train import train
from efface.cli_verify import verify
from efface.errors import InputError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make trained PyTorch classifiers forget on request, and show how far they did.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command()(train)


@app.command()
@guarded
def forget(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of the trained model.")],
    method: Annotated[str, typer.Option("--method", "-m", help="See `efface methods`; or auto.")],
    out: OutOption,
    classes: ClassesOption = None,
    items: ItemsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    request: RequestOption = None,
    reason: ReasonOption = "",
    settings: SetOption = None,
    retrained: Annotated[
        Path | None, typer.Option("--retrained", help="For method auto: artifact made by retrain, to judge by.")
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of this step.")] = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a trained classifier forget classes, items, or everything of a group."""
    from efface import verbs
    from efface.folder import check_vacant

    check_vacant(out, overwrite)
    asked = request_of(classes, items, groups, where, request, reason)
    source = load_artifact(artifact, trust)
    loaded = data_of(source, data, root, download, data_set)
    forgotten = verbs.forget(
        source,
        loaded,
        asked,
        method=method,
        settings=pairs(settings),
        retrained=None if retrained is None else load_artifact(retrained, trust),
        seed=seed,
        device=device,
        progress=progress_of(quiet),
    )
    forgotten.save(out, overwrite=overwrite)
    finish(forgotten, as_json, f"next: efface audit {out} --original {artifact} --retrain")


@app.command()
@guarded
def audit(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder made by `efface forget`.")],
    original: Annotated[Path, typer.Option("--original", help="Artifact folder of the model before forgetting.")],
    retrained: Annotated[
        list[Path] | None, typer.Option("--retrained", help="Artifact folder made by method retrain; repeat.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Retrain one reference now (takes a training).")] = False,
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder made by `efface train --references`.")
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option("--other", help="More artifacts as rows, named after their folders; repeat.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for audit.json and the reports; the artifact's by default."),
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the audit's draws.")] = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Measure how far a model has forgotten, and write audit.json, report.html and report.md."""
    from efface import verbs
    from efface.references import load_references
    from efface.report import write

    if sum(map(bool, (retrain, retrained, references))) > 1:
        raise InputError("give one of --references FOLDER, --retrained FOLDERS and --retrain")
    candidate = load_artifact(artifact, trust)
    before = load_artifact(original, trust)
    compared: Any = [load_artifact(p, trust) for p in retrained] if retrained else retrain
    if references:
        compared = load_references(references, before.model, trust=trust)
    others = {p.resolve().name: load_artifact(p, trust) for p in other or ()}
    loaded = data_of(candidate, data, root, download, data_set)
    found = verbs.audit(
        candidate,
        loaded,
        original=before,
        retrained=compared,
        others=others,
        seed=seed,
        device=device,
        progress=progress_of(quiet),
    )
    folder = out or artifact
    folder.mkdir(parents=True, exist_ok=True)
    files = write(found, candidate.record, folder)
    if as_json:
        typer.echo(found.to_json())
    else:
        from efface.report.console import show

        show(found)
    for file in files:
        typer.echo(f"written: {file}", err=as_json)


app.command()(verify)


@app.command()
@guarded
def methods(as_json: JsonOption = False) -> None:
    """List the unlearning methods: what each forgets, reads, needs and costs."""
    from efface.methods.catalogue import describe

    rows = describe()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    from efface.terminal import print_table

    table = Table("method", "forgets", "reads", "needs at training", "time", "source", header_style="bold")
    for row in rows:
        table.add_row(
            row["name"],
            ", ".join(row["targets"]),
            ", ".join(row["reads"]) or "nothing",
            row["prepared"] or "-",
            row["cost"],
            row["source"],
        )
    print_table(table)


@app.command()
@guarded
def demo(
    out: OutOption = Path("demo"),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on handwritten digits, forget one class in two ways, audit both: a minute, no network."""
    from efface.demo import run_demo

    result = run_demo(out, overwrite=overwrite, device=device, progress=progress_of(quiet))
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        result.show()


@app.command()
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
    from efface.comparing import compare as run_plan

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


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
