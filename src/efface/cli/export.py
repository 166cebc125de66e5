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
    rounded: Annotated[
        bool, typer.Option("--rounded", help="In bfloat16 or half, as the original came; may undo small steps.")
    ] = False,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    config: ConfigOption = None,
) -> None:
    """Write a model's weights as the original's came: in its format, under its names, for the library it is from.

    In float32, as they were audited, or float64 where they came so. bfloat16 and half are for --rounded.
    """
    from efface.models.checkpoints.card import README
    from efface.report.card import model_card

    made = load_artifact(artifact, trust)
    words = model_card(made.record, _audit_of(artifact)) if card else ""
    written = made.export(out, overwrite=overwrite, card=words, rounded=rounded)
    typer.echo(f"written: {written}")
    came = made.record.first_came_as
    if came and came != "float64":
        how = (
            f"rounded to {came}, as they came, which may undo small steps of forgetting: audit this file again"
            if rounded
            else f"float32, as they were changed and audited; they came as {came}, and --rounded writes that"
        )
        typer.echo(f"weights: {how}")
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
