"""The subcommand `forget`."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.cli.loading import (
    Asked,
    data_of,
    is_weights,
    load_artifact,
    load_data,
    pairs,
    progress_of,
    recipe_of,
    spec_of,
    with_skips,
)
from efface.cli.options import (
    BackendOption,
    BudgetOption,
    CheckpointsOption,
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
    JudgesOption,
    LogOption,
    MethodOption,
    ModelOption,
    ModelSetOption,
    OutOption,
    OverwriteOption,
    QuietOption,
    ReasonOption,
    RecipeOption,
    RecipeSetOption,
    ReferencesFolderOption,
    RequestedAtOption,
    RequestedByOption,
    RequestOption,
    RootOption,
    SeedOption,
    SetOption,
    SkipBadOption,
    TicketOption,
    TrustOption,
    TuneOption,
    UnseenOption,
    WhereOption,
    WithCanariesOption,
    WorkersOption,
    guarded,
)
from efface.cli.outcome import finish, following, left_to_finish, logged, opened
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact
    from efface.data import Data
    from efface.request import Request

__all__ = ["forget"]


@guarded
def forget(
    artifact: Annotated[
        Path, typer.Argument(help="Artifact folder of the trained model, or weights: a file, or Hugging Face's folder.")
    ],
    out: OutOption,
    method: MethodOption = "auto",
    classes: ClassesOption = None,
    items: ItemsOption = None,
    ids: IdsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    with_canaries: WithCanariesOption = False,
    request: RequestOption = None,
    reason: ReasonOption = "",
    requested_at: RequestedAtOption = "",
    requested_by: RequestedByOption = "",
    ticket: TicketOption = "",
    settings: SetOption = None,
    tune: TuneOption = False,
    budget: BudgetOption = None,
    retrained: JudgesOption = None,
    references: ReferencesFolderOption = None,
    model: ModelOption = "",
    model_set: ModelSetOption = None,
    recipe: RecipeOption = None,
    recipe_set: RecipeSetOption = None,
    validation: UnseenOption = 0.0,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    skip_bad: SkipBadOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = None,
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    log: LogOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a trained classifier forget classes, items, or everything of a group.

    Weights need --data, and --recipe as they were trained; a file --model, too. Exit status 1 if the method ended but
    the model has not forgotten; a model that did not change at all is not written.
    """
    from efface.artifact.artifact import foreign_to_artifact
    from efface.files import check_vacant
    from efface.verbs.forget import kept_accuracy

    check_vacant(out, overwrite, foreign_to_artifact)
    about = requested_at, requested_by, ticket
    asked = Asked(classes, items, groups, where, request, reason, with_canaries, ids, *about).request()
    given = SimpleNamespace(**locals())
    logger = opened(log)
    source, known = _source(given)
    forgotten = _forgotten(given, asked, source, known)
    if forgotten.record.weights_after != forgotten.record.weights_before:
        forgotten.save(out, overwrite=overwrite)
    shutil.rmtree(_trials(out), ignore_errors=True)
    logged(forgotten, logger)
    kept = "" if as_json else kept_accuracy(forgotten, known)
    finish(forgotten, as_json, following("audit", out, "--original", artifact, "--retrain", root=root), kept)


def _forgotten(given: SimpleNamespace, asked: Request, source: Any, data: Data) -> Artifact:
    """Forget with the options as they were given."""
    from efface.references.references import load_references
    from efface.verbs import forget as verb

    if given.retrained and given.references:
        raise InputError("give either --references FOLDER or --retrained models, not both")
    like = None if is_weights(given.artifact) else source.model
    judges = tuple(load_artifact(p, given.trust) for p in given.retrained or ())
    searching = given.tune or given.method == verb.AUTO
    with left_to_finish():
        return verb.forget(
            source,
            data,
            asked,
            method=given.method,
            settings=pairs(given.settings),
            tune=given.tune,
            budget=given.budget,
            retrained=load_references(given.references, like, trust=given.trust) if given.references else judges,
            keep_trials=_trials(given.out) if searching else None,
            recipe=recipe_of(given.recipe, pairs(given.recipe_set), None, None),
            validation=given.validation,
            seed=given.seed,
            device=given.device,
            checkpoints=given.checkpoints,
            backend=given.backend,
            workers=given.workers,
            progress=progress_of(given.quiet, notes=given.as_json),
        )


def _trials(out: Path) -> Path:
    """Return where a search keeps its trials: beside the result, so that a stopped one resumes; then they go."""
    return out.parent / f".{out.name}.trials"


def _source(given: SimpleNamespace) -> tuple[Any, Data]:
    """Return the model that was named, as an artifact or as how to build one, and its data."""
    options = with_skips(given.data_set, given.skip_bad)
    if not is_weights(given.artifact):
        elsewhere = given.model or given.model_set or given.recipe or given.recipe_set or given.data
        if elsewhere and not given.artifact.exists():
            raise InputError(
                f"there is no file and no folder at {given.artifact}; give weights, or an artifact's folder"
            )
        if given.model or given.model_set or given.recipe or given.recipe_set or given.validation:
            raise InputError("--model, --recipe and --validation are for a file of weights; an artifact knows them")
        artifact = load_artifact(given.artifact, given.trust)
        return artifact, data_of(artifact.record, given.data, given.root, given.download, options)
    if given.data is None:
        raise InputError("--data is missing; name the data that the model was trained on, e.g. --data digits")
    spec = spec_of(given.artifact, given.model, pairs(given.model_set))
    return spec, load_data(given.data, given.root, given.download, pairs(options), spec)
