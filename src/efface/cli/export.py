"""The subcommand `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efface.cli.loading import load_artifact
from efface.cli.options import ConfigOption, OverwriteOption, TrustOption, guarded
from efface.errors import InputError, explain

if TYPE_CHECKING:
    from efface.auditing.result import Audit

__all__ = ["export"]


@guarded
def export(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="FILE.safetensors or FILE.pth; of Hugging Face's models a folder, too."),
    ],
    card: Annotated[
        bool, typer.Option("--card/--no-card", help="Write a model card beside, from the record and audit.json.")
    ] = True,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    config: ConfigOption = None,
) -> None:
    """Write a model's weights as the original's came: in its format, under its names, for the library it is from."""
    from efface.models.checkpoints.card import README
    from efface.report.card import model_card

    made = load_artifact(artifact, trust)
    words = model_card(made.record, _audit_of(artifact)) if card else ""
    written = made.export(out, overwrite=overwrite, card=words)
    typer.echo(f"written: {written}")
    if card:
        typer.echo(f"written: {written / README if written.is_dir() else written.with_suffix('.md')}")


def _audit_of(artifact: Path) -> Audit | None:
    """Return the audit in an artifact's folder, if there is one.

    Raises:
        InputError: It is damaged.
    """
    from pydantic import ValidationError

    from efface.auditing.result import Audit

    file = artifact / "audit.json"
    if not file.is_file():
        return None
    try:
        return Audit.from_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file} is damaged: {explain(error)}; audit again, or --no-card") from None
