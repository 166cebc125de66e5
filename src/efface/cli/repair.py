"""The subcommand `repair`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.cli.loading import data_of, progress_of, with_skips
from efface.cli.options import (
    BackendOption,
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    QuietOption,
    RootOption,
    SkipBadOption,
    TrustOption,
    WorkersOption,
    guarded,
)
from efface.cli.outcome import say

__all__ = ["repair"]


@guarded
def repair(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of members trained apart (sisa, arcane).")],
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    skip_bad: SkipBadOption = False,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    trust: TrustOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Make an artifact's damaged or missing shards again, to the same bits, from what is left and the data."""
    from efface.artifact.artifact import Artifact
    from efface.verbs.repair import repair as verb

    record = Artifact.read_record(artifact)
    loaded = data_of(record, data, root, download, with_skips(data_set, skip_bad))
    made = verb(
        artifact,
        loaded,
        device=device,
        backend=backend,
        workers=workers,
        trust=trust,
        progress=progress_of(quiet),
    )
    say(f"made again: {', '.join(made)}" if made else "nothing to do: all files are what the record says")
