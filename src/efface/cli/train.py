"""The subcommand `train`: an original, a prepared or continued one, or references for audits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

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
    CanariesOption,
    CheckpointsOption,
    ClassesOption,
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    GroupsOption,
    HoldOutOption,
    IdsOption,
    ItemsOption,
    JsonOption,
    KeepOption,
    LogOption,
    ModelOption,
    ModelSetOption,
    OutOption,
    OverwriteOption,
    PrepareOption,
    QuietOption,
    RecipeOption,
    RecipeSetOption,
    ReferencesOption,
    RepeatsOption,
    RequestOption,
    RootOption,
    SetOption,
    ShadowsOption,
    SkipBadOption,
    SourceOption,
    TrainSeedOption,
    TrustOption,
    WeightsOption,
    WhereOption,
    WithCanariesOption,
    WorkersOption,
    guarded,
)
from efface.cli.outcome import finish, finish_references, following, logged, opened
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact
    from efface.models.spec import ModelSpec

__all__ = ["train"]


@guarded
def train(
    out: OutOption,
    model: ModelOption = "",
    model_set: ModelSetOption = None,
    weights: WeightsOption = None,
    source: SourceOption = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    skip_bad: SkipBadOption = False,
    method: PrepareOption = None,
    settings: SetOption = None,
    keep: KeepOption = None,
    recipe: RecipeOption = None,
    recipe_set: RecipeSetOption = None,
    seed: TrainSeedOption = None,
    validation: HoldOutOption = 0.1,
    canaries: CanariesOption = 0,
    references: ReferencesOption = None,
    repeats: RepeatsOption = 0,
    shadows: ShadowsOption = 0,
    classes: ClassesOption = None,
    items: ItemsOption = None,
    ids: IdsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    with_canaries: WithCanariesOption = False,
    request: RequestOption = None,
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = None,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    log: LogOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Train a classifier, plainly or with what a method needs to forget later; or, once for all audits, references."""
    given = SimpleNamespace(**locals())  # the options by name
    asked = Asked(classes, items, groups, where, request, canaries=with_canaries, ids=ids)
    if references is not None:
        _references(given, asked)
        return
    if any(asked) or repeats or shadows:
        raise InputError(
            "what to forget (--classes, --items, ...), --repeats and --shadows go with --references N; to forget, use "
            "`efface forget`"
        )
    _original(given)


def _references(given: SimpleNamespace, asked: Asked) -> None:
    """Train references with the options as they were given."""
    from efface.files import check_vacant, held, new_folder
    from efface.references.references import foreign_to_references, load_references
    from efface.references.train import train_references

    source, out = given.source, given.out
    if given.canaries:
        raise InputError(
            "--canaries N belongs to training an original, and references are trained on its data; to leave its "
            "canaries out of them, as the request does, say --with-canaries"
        )
    if given.keep:
        raise InputError("--keep belongs to training an original; a reference keeps nothing")
    if given.log is not None:
        raise InputError("--log belongs to training an original; references are many models")
    if given.checkpoints is not None:
        raise InputError("--checkpoints belongs to training an original; references resume by themselves")
    if source is None or any(getattr(given, name) for name in ("recipe", "recipe_set", "model", "weights")):
        raise InputError("references are trained as an original was: give --from ORIGINAL, no model and no recipe")
    parent = load_artifact(source, given.trust)
    options = with_skips(given.data_set, given.skip_bad)
    data = data_of(parent.record, given.data, given.root, given.download, options)

    def trained(folder: Path) -> None:
        train_references(
            parent,
            data,
            asked.request(),
            given.references,
            folder,
            repeats=given.repeats,
            shadows=given.shadows,
            method=given.method,
            settings=pairs(given.settings),
            seed=given.seed or 0,
            backend=given.backend,
            workers=given.workers,
            device=given.device,
            progress=progress_of(given.quiet),
        )

    if given.overwrite and out.is_dir():
        check_vacant(out, True, foreign_to_references)
        # The old ones stay until all new ones are there, and nobody works in them meanwhile.
        with held(out, progress_of(given.quiet).say), new_folder(out, True, foreign_to_references) as draft:
            trained(draft)
    else:
        trained(out)
    finish_references(load_references(out, parent.model, trust=True), source, given.root, given.as_json)


def _original(given: SimpleNamespace) -> None:
    """Train an original, or continue from one, with the options as they were given."""
    from efface.artifact.artifact import foreign_to_artifact
    from efface.files import check_vacant, checked
    from efface.models.spec import ModelSpec
    from efface.verbs import train as verb
    from efface.verbs.importing import import_checkpoint

    out, source, model = given.out, given.source, given.model
    check_vacant(out, given.overwrite, foreign_to_artifact)
    foreign = source is not None and is_weights(source)
    if not foreign and (source is None) == (not model):
        raise InputError("give either --model, to train from the start, or --from, to continue from an artifact")
    start: ModelSpec | Artifact
    options, base = with_skips(given.data_set, given.skip_bad), None
    if source is not None and not foreign:
        start = parent = load_artifact(source, given.trust)
        loaded = data_of(parent.record, given.data, given.root, given.download, options)
        base = parent.record.recipe
    else:
        arguments = pairs(given.model_set)
        if foreign:
            spec = spec_of(source, model, arguments)
        else:
            spec = checked(ModelSpec, {"build": model, "arguments": arguments, "weights": given.weights})
        if given.data is None:
            raise InputError("--data is missing; name a data set, e.g. --data digits")
        loaded = load_data(given.data, given.root, given.download, pairs(options), spec)
        start = import_checkpoint(spec, loaded, device=given.device) if foreign else spec
    logger = opened(given.log)
    artifact = verb.train(
        start,
        loaded,
        method=given.method,
        settings=pairs(given.settings),
        keep=given.keep or (),
        recipe=recipe_of(given.recipe, pairs(given.recipe_set), given.seed, base),
        validation=given.validation,
        canaries=given.canaries,
        device=given.device,
        checkpoints=given.checkpoints,
        backend=given.backend,
        workers=given.workers,
        progress=progress_of(given.quiet, notes=given.as_json),
    )
    artifact.save(out, overwrite=given.overwrite)
    logged(artifact, logger)
    finish(artifact, given.as_json, following("forget", out, "--classes", "...", "--out", "FOLDER", root=given.root))
