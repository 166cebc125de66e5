"""The subcommand `audit`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.cli.loading import by_name, data_of, load_artifact, original_of, progress_of
from efface.cli.options import (
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    LogOption,
    QuietOption,
    ReferencesFolderOption,
    RootOption,
    TrustOption,
    guarded,
)
from efface.cli.outcome import close, logged, opened, status_of
from efface.cli.predictions import (
    PredictedClasses,
    PredictedGroups,
    PredictedIds,
    PredictedRepeat,
    PredictedRequest,
    PredictedWhere,
    audit_tables,
    refuse_requests,
)
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact
    from efface.artifact.record import Record
    from efface.auditing.result import Audit


@guarded
def audit(
    artifact: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTIFACT | BEFORE AFTER [RETRAINED]...",
            help="Artifact folder made by `efface forget`; with --predictions, tables of predictions.",
        ),
    ],
    original: Annotated[
        Path | None,
        typer.Option("--original", help="Model before forgetting: artifact folder, or the weights given."),
    ] = None,
    predictions: Annotated[
        bool,
        typer.Option("--predictions", help="Audit tables (.csv, .parquet) of what models answered; no model needed."),
    ] = False,
    retrained: Annotated[
        list[Path] | None, typer.Option("--retrained", help="Artifact folder made by method retrain; repeat.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Retrain one reference now (takes a training).")] = False,
    references: ReferencesFolderOption = None,
    other: Annotated[
        list[Path] | None,
        typer.Option("--other", help="More artifacts (or predictions) as rows, named after them; repeat."),
    ] = None,
    all_requests: Annotated[
        bool,
        typer.Option("--all-requests", help="Ask about every request so far; --original is the model before them all."),
    ] = False,
    step: Annotated[
        list[Path] | None,
        typer.Option("--step", help="For --all-requests: artifact after an earlier request; repeat."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for audit.json and the reports; the artifact's by default."),
    ] = None,
    shareable: Annotated[
        Path | None,
        typer.Option("--shareable", help="Folder for a second version, without single records and who asked."),
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    classes: PredictedClasses = None,
    ids: PredictedIds = None,
    groups: PredictedGroups = None,
    where: PredictedWhere = None,
    request: PredictedRequest = None,
    repeat: PredictedRepeat = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit status 3 if it differs from a retrained model, 4: could not tell."),
    ] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Ask the questions that no search may read, too, from other seeds.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the audit's draws.")] = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
    log: LogOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Measure how far a model has forgotten, and write audit.json, report.html and report.md."""
    given = SimpleNamespace(**locals(), logger=opened(log))
    if predictions:
        _to(out, shareable, None)
        _deliver(audit_tables(given), None, given, out)
        return
    refuse_requests(given)
    if len(artifact) != 1 or original is None:
        raise InputError(
            "give one artifact folder and --original; of models that are only known by their predictions: "
            "efface audit --predictions BEFORE.csv AFTER.csv [RETRAINED.csv ...]"
        )
    if sum(map(bool, (retrain, retrained, references))) > 1:
        raise InputError("give one of --references FOLDER, --retrained FOLDERS and --retrain")
    folder = _to(out or artifact[0], shareable, artifact[0])
    candidate = load_artifact(artifact[0], trust)
    _deliver(_audited(given, candidate), candidate.record, given, folder)


def _to(out: Path | None, shareable: Path | None, artifact: Path | None) -> Path | None:
    """Return the folder for the internal version, checked before any work, as is that of the one to share."""
    from efface.files import check_fillable

    if out is not None:
        check_fillable(out)
    taken = {p.resolve() for p in (out, artifact) if p is not None}
    if shareable is not None and check_fillable(shareable).resolve() in taken:
        raise InputError(f"--shareable {shareable} is where the internal version goes; name another folder")
    return out


def _deliver(found: Audit, record: Record | None, given: SimpleNamespace, folder: Path | None) -> None:
    """Write the reports, print the audit, and end with its status where that was asked for."""
    from efface.files import remove_drafts
    from efface.report import write

    logged(found, given.logger)
    files = []
    for place, share in ((folder, False), (given.shareable, True)):
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            remove_drafts(place)
            files += write(found, record, place, share=share)
    if given.as_json:
        typer.echo(found.to_json())
    else:
        from efface.report.console import show

        show(found)
    for file in files:
        typer.echo(f"written: {file}", err=given.as_json)
    if not files:
        typer.echo("no report was written; --out FOLDER writes one", err=given.as_json)
    close(found, given.as_json)
    if given.check and (status := status_of(found)):
        raise typer.Exit(status)


def _audited(given: SimpleNamespace, candidate: Artifact) -> Audit:
    """Audit with the options as they were given."""
    from efface.auditing.sealed import SEED
    from efface.auditing.settings import AuditSettings
    from efface.references import load_references
    from efface.verbs import audit as verb

    trust = given.trust
    before = original_of(given.original, candidate.record, trust)
    retrained: Any = [load_artifact(p, trust) for p in given.retrained] if given.retrained else given.retrain
    if given.references:
        retrained = load_references(given.references, before.model, trust=trust)
    return verb.audit(
        candidate,
        data_of(candidate.record, given.data, given.root, given.download, given.data_set),
        original=before,
        retrained=retrained,
        others={name: load_artifact(p, trust) for name, p in by_name(given.other).items()},
        all_requests=given.all_requests,
        steps=[load_artifact(p, trust) for p in given.step or ()],
        settings=AuditSettings(sealed=given.sealed),
        seed=given.seed + SEED if given.sealed else given.seed,
        device=given.device,
        progress=progress_of(given.quiet),
    )
