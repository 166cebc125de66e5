"""The subcommand `import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.cli.loading import is_weights, load_data, pairs, recipe_of, spec_of, with_skips
from efface.cli.options import (
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    ModelOption,
    ModelSetOption,
    OutOption,
    OverwriteOption,
    RecipeOption,
    RecipeSetOption,
    RootOption,
    SkipBadOption,
    UnseenOption,
    guarded,
)
from efface.cli.outcome import finish, following, left_to_finish
from efface.errors import InputError

__all__ = ["import_checkpoint"]


@guarded
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="Weights: a file, or a folder of Hugging Face's save_pretrained.")],
    out: OutOption,
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
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make an artifact of a model that Efface did not train, without training it."""
    from efface.artifact.artifact import foreign_to_artifact
    from efface.files import check_vacant
    from efface.verbs.importing import import_checkpoint as verb

    check_vacant(out, overwrite, foreign_to_artifact)
    if not is_weights(checkpoint):
        raise InputError(f"{checkpoint} holds no weights; needed: a file, or a folder with config.json and weights")
    if data is None:
        raise InputError("--data is missing; name the data that the model was trained on, e.g. --data digits")
    spec = spec_of(checkpoint, model, pairs(model_set))
    loaded = load_data(data, root, download, pairs(with_skips(data_set, skip_bad)), spec)
    with left_to_finish():
        artifact = verb(
            spec,
            loaded,
            recipe=recipe_of(recipe, pairs(recipe_set), None, None),
            validation=validation,
            device=device,
        )
    artifact.save(out, overwrite=overwrite)
    finish(artifact, as_json, following("forget", out, "--classes", "...", "--out", "FOLDER", root=root))
