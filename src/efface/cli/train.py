"""The subcommand `train`: an original, a prepared or continued one, or references for audits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efface.cli.options import (
    PANEL,
    BackendOption,
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
    RequestOption,
    RootOption,
    SetOption,
    TrustOption,
    WhereOption,
    WorkersOption,
    check_request_given,
    data_of,
    finish,
    finish_references,
    guarded,
    load_artifact,
    load_data,
    pairs,
    progress_of,
    recipe_of,
    request_of,
)
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact

__all__ = ["train"]


@guarded
def train(
    out: OutOption,
    model: Annotated[str, typer.Option("--model", help="mlp, lenet5, resnet18, all_cnn, or my_package:build.")] = "",
    model_set: Annotated[
        list[str] | None, typer.Option("--model-set", metavar="NAME=VALUE", help="Argument of the model; repeat.")
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Start from .safetensors or a state dict.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Artifact to continue from, e.g. to fine-tune mnemonic codes in.")
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Prepare for this method, e.g. mnemonic; plain training otherwise.")
    ] = None,
    settings: SetOption = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="WHAT", help="Keep for forgetting: class-means (of every layer's inputs)."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="YAML file with the recipe.")] = None,
    recipe_set: Annotated[
        list[str] | None,
        typer.Option("--recipe-set", metavar="NAME=VALUE", help="Field of the recipe, e.g. epochs=5; repeat."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of weights, order and augmentation.")] = None,
    validation: Annotated[float, typer.Option("--validation", help="Fraction of training data to hold out.")] = 0.1,
    references: Annotated[
        int | None,
        typer.Option(
            "--references",
            metavar="N",
            rich_help_panel=PANEL,
            help="Retrain N times without what a request names, for audits.",
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", metavar="N", rich_help_panel=PANEL, help="With --references: N runs of training and --method."
        ),
    ] = 0,
    shadows: Annotated[
        int,
        typer.Option(
            "--shadows",
            metavar="N",
            rich_help_panel=PANEL,
            help="With --references: N shadow models in thirds (U-LiRA).",
        ),
    ] = 0,
    classes: ClassesOption = None,
    items: ItemsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    request: RequestOption = None,
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Train a classifier, plainly or with what a method needs to forget later; or, once for all audits, references."""
    from efface.files import check_vacant, checked
    from efface.models.spec import ModelSpec
    from efface.references.train import train_references
    from efface.verbs import train as verb

    check_request_given(references, classes, items, groups, where, request, repeats, shadows)
    if references is not None:
        if keep:
            raise InputError("--keep belongs to training an original; a reference keeps nothing")
        if source is None or recipe or recipe_set or model or weights:
            raise InputError("references are trained as an original was: give --from ORIGINAL, no model and no recipe")
        asked = request_of(classes, items, groups, where, request, "")
        if overwrite and (out / "references.json").is_file():
            shutil.rmtree(out)
        parent = load_artifact(source, trust)
        made = train_references(
            parent,
            data_of(parent, data, root, download, data_set),
            asked,
            references,
            out,
            repeats=repeats,
            shadows=shadows,
            method=method,
            settings=pairs(settings),
            seed=seed or 0,
            backend=backend,  # type: ignore[arg-type]  # checked there, with the names that are allowed
            workers=workers,
            device=device,
            progress=progress_of(quiet),
        )
        finish_references(made, source, as_json)
        return
    check_vacant(out, overwrite)
    if (source is None) == (not model):
        raise InputError("give either --model, to train from the start, or --from, to continue from an artifact")
    if source is not None:
        parent = load_artifact(source, trust)
        start: ModelSpec | Artifact = parent
        loaded = data_of(parent, data, root, download, data_set)
        base = parent.record.recipe
    else:
        start = checked(ModelSpec, {"build": model, "arguments": pairs(model_set), "weights": weights})
        if data is None:
            raise InputError("--data is missing; name a data set, e.g. --data digits")
        loaded = load_data(data, root, download, pairs(data_set))
        base = None
    artifact = verb.train(
        start,
        loaded,
        method=method,
        settings=pairs(settings),
        keep=keep or (),
        recipe=recipe_of(recipe, pairs(recipe_set), seed, base),
        validation=validation,
        device=device,
        progress=progress_of(quiet),
    )
    artifact.save(out, overwrite=overwrite)
    finish(artifact, as_json, f"next: efface forget {out} --method ... --classes ... --out FOLDER")
