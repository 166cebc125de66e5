"""The subcommand `audit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.cli.loading import by_name, checkpoints, data_of, is_weights, load_artifact, original_of, progress_of
from efface.cli.options import (
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    LogOption,
    ModelOption,
    ModelSetOption,
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
    asked_of,
    audit_tables,
    refuse_others,
)
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact
    from efface.artifact.case import Model
    from efface.artifact.record import Record
    from efface.auditing.result import Audit
    from efface.data import Data


@guarded
def audit(
    artifact: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTIFACT | BEFORE AFTER [RETRAINED]...",
            help="Artifact folder made by `efface forget`, or weights; with --predictions, tables of predictions.",
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
    model: ModelOption = "",
    model_set: ModelSetOption = None,
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
    if len(artifact) != 1 or original is None:
        raise InputError(
            "give one artifact folder or weights, and --original; of models that are only known by their predictions: "
            "efface audit --predictions BEFORE.csv AFTER.csv [RETRAINED.csv ...]"
        )
    if sum(map(bool, (retrain, retrained, references))) > 1:
        raise InputError("give one of --references FOLDER, --retrained FOLDERS and --retrain")
    weights = is_weights(artifact[0]) and artifact[0].suffix not in {".csv", ".parquet"}
    refuse_others(given, weights)
    folder = _to(out or (None if weights else artifact[0]), shareable, artifact[0])
    if weights:
        _deliver(_of_weights(given), None, given, folder)
        return
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


def _of_weights(given: SimpleNamespace) -> Audit:
    """Audit weights that have no record: the options say how they are built and what was to be forgotten."""
    (candidate,) = given.artifact
    asked = asked_of(given)
    if asked is None:
        raise InputError(
            f"{candidate} is weights without a record; say what was to be forgotten: --classes, --ids, --groups, "
            "--where or --request"
        )
    if given.retrain and is_weights(given.original):
        raise InputError(
            f"{given.original} does not say how it was trained, so --retrain has no recipe; make an artifact of it "
            "(efface import ... --recipe RECIPE.yaml --out FOLDER) and give that as --original, or give --retrained"
        )
    data, loaded = checkpoints(given, [candidate, given.original], given.data_set, foreign=True)
    if data is None:
        raise InputError(f"{candidate} is weights without a record; say with --data what the original was trained on")
    return _asked(given, loaded(candidate), data, loaded(given.original), loaded, request=asked)


def _audited(given: SimpleNamespace, candidate: Artifact) -> Audit:
    """Audit an artifact: its record says what was to be forgotten, and of which data."""

    def loaded(path: Path) -> Artifact:
        return load_artifact(path, given.trust)

    data = data_of(candidate.record, given.data, given.root, given.download, given.data_set)
    before = original_of(given.original, candidate.record, given.trust)
    steps = [loaded(p) for p in given.step or ()]
    return _asked(given, candidate, data, before, loaded, all_requests=given.all_requests, steps=steps)


def _asked(
    given: SimpleNamespace, candidate: Model, data: Data, before: Model, loaded: Callable[[Path], Model], **known: Any
) -> Audit:
    """Audit with the options as they were given."""
    from efface.artifact.case import network_of
    from efface.auditing.sealed import SEED
    from efface.auditing.settings import AuditSettings
    from efface.references import load_references
    from efface.verbs import audit as verb

    retrained: Any = [loaded(p) for p in given.retrained] if given.retrained else given.retrain
    if given.references:
        retrained = load_references(given.references, network_of(before), trust=given.trust)
    return verb.audit(
        candidate,
        data,
        original=before,
        retrained=retrained,
        others={name: loaded(p) for name, p in by_name(given.other).items()},
        settings=AuditSettings(sealed=given.sealed),
        seed=given.seed + SEED if given.sealed else given.seed,
        device=given.device,
        progress=progress_of(given.quiet),
        **known,
    )
