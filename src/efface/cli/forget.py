"""The subcommand `forget`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from efface.cli.options import (
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
from efface.errors import InputError

__all__ = ["forget"]


@guarded
def forget(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of the trained model.")],
    out: OutOption,
    method: Annotated[
        str,
        typer.Option(
            "--method", "-m", help="See `efface methods`; auto tries them from cheap to dear until one passes."
        ),
    ] = "auto",
    classes: ClassesOption = None,
    items: ItemsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    request: RequestOption = None,
    reason: ReasonOption = "",
    settings: SetOption = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search the method's hyper-parameters on held-out training data.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="For auto and --tune: share of retraining's time to spend, e.g. 0.3."),
    ] = None,
    retrained: Annotated[
        list[Path] | None,
        typer.Option("--retrained", help="For auto and --tune: artifact made by retrain, to judge by; repeat."),
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="For auto and --tune: folder of `efface train --references`.")
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
    from efface.files import check_vacant
    from efface.references.references import load_references
    from efface.verbs import forget as verb

    check_vacant(out, overwrite)
    if retrained and references:
        raise InputError("give either --references FOLDER or --retrained models, not both")
    asked = request_of(classes, items, groups, where, request, reason)
    source = load_artifact(artifact, trust)
    loaded = data_of(source, data, root, download, data_set)
    # Beside the result, so that a stopped search resumes; it holds a model, and goes when the result is there.
    searching = tune or method == verb.AUTO
    trials = out.parent / f".{out.name}.trials" if searching else None
    forgotten = verb.forget(
        source,
        loaded,
        asked,
        method=method,
        settings=pairs(settings),
        tune=tune,
        budget=budget,
        retrained=(
            load_references(references, source.model, trust=trust)
            if references
            else [load_artifact(p, trust) for p in retrained]
            if retrained
            else ()
        ),
        keep_trials=trials,
        seed=seed,
        device=device,
        progress=progress_of(quiet),
    )
    forgotten.save(out, overwrite=overwrite)
    if trials is not None:
        shutil.rmtree(trials, ignore_errors=True)
    finish(forgotten, as_json, f"next: efface audit {out} --original {artifact} --retrain")
