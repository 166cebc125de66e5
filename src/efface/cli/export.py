"""The subcommand `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.cli.loading import load_artifact
from efface.cli.options import ConfigOption, OverwriteOption, TrustOption, guarded

__all__ = ["export"]


@guarded
def export(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="FILE.safetensors or FILE.pth; of Hugging Face's models a folder, too."),
    ],
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    config: ConfigOption = None,
) -> None:
    """Write a model's weights as the original's came: in its format, under its names, for the library it is from."""
    made = load_artifact(artifact, trust).export(out, overwrite=overwrite)
    typer.echo(f"written: {made}")
