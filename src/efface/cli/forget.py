"""The subcommand `forget`."""

from __future__ import annotations

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
    from efface.files import check_vacant
    from efface.verbs import forget as verb

    check_vacant(out, overwrite)
    asked = request_of(classes, items, groups, where, request, reason)
    source = load_artifact(artifact, trust)
    loaded = data_of(source, data, root, download, data_set)
    forgotten = verb.forget(
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
