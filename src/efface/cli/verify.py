"""The subcommand `verify`: an artifact's hashes and scores again, or any two checkpoints with data and a request."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

import typer

from efface.cli.loading import Asked, checkpoints, original_of, progress_of, with_skips
from efface.cli.options import (
    ClassesOption,
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    GroupsOption,
    IdsOption,
    ItemsOption,
    JsonOption,
    ModelOption,
    ModelSetOption,
    QuietOption,
    ReferencesFolderOption,
    RequestOption,
    RootOption,
    SkipBadOption,
    TrustOption,
    UnseenOption,
    WhereOption,
    guarded,
)
from efface.cli.outcome import close, say, status_of_verification
from efface.errors import InputError

if TYPE_CHECKING:
    from torch.nn import Module

    from efface.artifact.artifact import Artifact
    from efface.request import Request
    from efface.verifying import Verification

__all__ = ["verify"]


@guarded
def verify(
    artifact: Annotated[Path | None, typer.Argument(help="Artifact folder to check again.")] = None,
    original: Annotated[
        Path | None, typer.Option("--original", help="Model before forgetting: artifact folder or weights file.")
    ] = None,
    candidate: Annotated[
        Path | None, typer.Option("--candidate", help="Model after forgetting, in place of an artifact folder.")
    ] = None,
    model: ModelOption = "",
    model_set: ModelSetOption = None,
    classes: ClassesOption = None,
    items: ItemsOption = None,
    ids: IdsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    request: RequestOption = None,
    retrained: Annotated[
        list[Path] | None, typer.Option("--retrained", help="Retrained model: artifact or weights file; repeat.")
    ] = None,
    references: ReferencesFolderOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for verification.json, audit.json and the reports.")
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    skip_bad: SkipBadOption = False,
    validation: UnseenOption = 0.0,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0, help="Allowed difference of scores.")] = 0.005,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the audit's draws.")] = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Check an artifact's hashes and scores again, or audit any two checkpoints.

    Scores are computed again where the data and the original are at hand, and those of a sealed audit too: that takes
    as long as the audit did, with no kept answers; each sealed model trains on kept data and has its blocks probed.

    Exit status: 0 all holds, and no difference from a retrained model was found where an audit was made; 1 a hash, a
    record or a score does not hold; 3 it differs; 4 it could not be told (no retrained model, or a weak control).
    """
    if (artifact is None) == (candidate is None):
        raise InputError("give either an artifact folder, or --candidate with --original")
    if references and retrained:
        raise InputError("give either --references FOLDER or --retrained models, not both")
    if out is not None:
        from efface.files import check_fillable

        check_fillable(out)
    flags = Asked(classes, items, groups, where, request, ids=ids)
    found = _checked(SimpleNamespace(**locals()), flags.request() if any(flags) else None)
    finish_verification(found, out, as_json)
    if status := status_of_verification(found):
        raise typer.Exit(status)


def _checked(given: SimpleNamespace, asked: Request | None) -> Verification:
    """Verify with the options as they were given."""
    from efface.artifact.artifact import Artifact
    from efface.references import load_references
    from efface.verbs.verify import verify as check

    trust = given.trust
    folders = [p for p in (given.artifact, given.candidate, given.original) if p is not None]
    options = with_skips(given.data_set, given.skip_bad)
    data, loaded = checkpoints(given, folders, options, foreign=given.candidate is not None)
    before: Artifact | Module | None = None
    if given.original is not None and given.artifact is not None and not given.model:
        before = original_of(given.original, Artifact.read_record(given.artifact), trust)
    elif given.original is not None:
        before = loaded(given.original)
    like = before.model if isinstance(before, Artifact) else before
    folder = load_references(given.references, like, trust=trust) if given.references else None
    manifest = folder.manifest if folder else None
    return check(
        given.artifact or loaded(given.candidate),
        before,
        data,
        asked,
        retrained=folder or [loaded(p) for p in given.retrained or ()],
        recipe=manifest.recipe if manifest else None,
        validation=manifest.data.validation if manifest else given.validation,
        tolerance=given.tolerance,
        seed=given.seed,
        device=given.device,
        trust=trust,
        progress=progress_of(given.quiet),
    )


def finish_verification(found: Verification, out: Path | None, as_json: bool) -> None:
    """Say what was checked, and write it with its audit's report if a folder is given."""
    if out is not None:
        from efface.files import remove_drafts, write_file
        from efface.report import write

        out.mkdir(parents=True, exist_ok=True)
        remove_drafts(out)
        files = [write_file(out / "verification.json", found.to_json())]
        files += write(found.audit, None, out) if found.audit else []
        for file in files:
            typer.echo(f"written: {file}", err=as_json)
    if as_json:
        typer.echo(found.to_json())
        close(found.audit, as_json)
        return
    if found.audit is not None:
        from efface.report.console import show

        show(found.audit)
    for line in found.lines():
        say(line)
    close(found.audit, as_json)
