"""The subcommand `audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from efface.cli.options import (
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    QuietOption,
    RootOption,
    TrustOption,
    data_of,
    guarded,
    load_artifact,
    progress_of,
)
from efface.errors import InputError


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
    from efface.references import load_references
    from efface.report import write
    from efface.verbs import audit as verb

    if sum(map(bool, (retrain, retrained, references))) > 1:
        raise InputError("give one of --references FOLDER, --retrained FOLDERS and --retrain")
    candidate = load_artifact(artifact, trust)
    before = load_artifact(original, trust)
    compared: Any = [load_artifact(p, trust) for p in retrained] if retrained else retrain
    if references:
        compared = load_references(references, before.model, trust=trust)
    others = {p.resolve().name: load_artifact(p, trust) for p in other or ()}
    loaded = data_of(candidate, data, root, download, data_set)
    found = verb.audit(
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
