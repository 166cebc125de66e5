"""The subcommand `verify`: an artifact's hashes and scores again, or any two checkpoints with data and a request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.cli.options import (
    ClassesOption,
    ConfigOption,
    DataOption,
    DataSetOption,
    DeviceOption,
    DownloadOption,
    GroupsOption,
    ItemsOption,
    JsonOption,
    QuietOption,
    RequestOption,
    RootOption,
    TrustOption,
    WhereOption,
    guarded,
    load_artifact,
    load_data,
    pairs,
    progress_of,
    request_of,
)
from efface.errors import InputError

if TYPE_CHECKING:
    from torch.nn import Module

    from efface.artifact.artifact import Artifact
    from efface.data import Data
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
    model: Annotated[str, typer.Option("--model", help="How weights files are built, as in `efface train`.")] = "",
    model_set: Annotated[
        list[str] | None, typer.Option("--model-set", metavar="NAME=VALUE", help="Argument of the model; repeat.")
    ] = None,
    classes: ClassesOption = None,
    items: ItemsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    request: RequestOption = None,
    retrained: Annotated[
        list[Path] | None, typer.Option("--retrained", help="Retrained model: artifact or weights file; repeat.")
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder made by `efface train --references`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for verification.json, audit.json and the reports.")
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    validation: Annotated[
        float, typer.Option("--validation", help="Fraction held out of training, if no artifact knows.")
    ] = 0.0,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0, help="Allowed difference of scores.")] = 0.005,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the audit's draws.")] = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Check an artifact's hashes and scores again, or audit any two checkpoints; exit status 1 if something fails."""
    from efface.artifact.artifact import Artifact
    from efface.references import load_references
    from efface.verbs.verify import verify as check

    if (artifact is None) == (candidate is None):
        raise InputError("give either an artifact folder, or --candidate with --original")
    if references and retrained:
        raise InputError("give either --references FOLDER or --retrained models, not both")
    flags = (classes, items, groups, where, request)
    asked = request_of(*flags, "") if any(flags) else None
    folders = [p for p in (artifact, candidate, original) if p is not None]
    loaded = data_known(folders, data, root, download, data_set)
    built = [checkpoint(p, model, pairs(model_set), loaded, trust) for p in retrained or ()]
    before = None if original is None else checkpoint(original, model, pairs(model_set), loaded, trust)
    folder = (
        load_references(references, before.model if isinstance(before, Artifact) else before, trust=trust)
        if references
        else None
    )
    manifest = folder.manifest if folder else None
    chosen = artifact if candidate is None else checkpoint(candidate, model, pairs(model_set), loaded, trust)
    assert chosen is not None
    found = check(
        chosen,
        before,
        loaded,
        asked,
        retrained=folder or built,
        recipe=manifest.recipe if manifest else None,
        validation=manifest.data.validation if manifest else validation,
        tolerance=tolerance,
        seed=seed,
        device=device,
        trust=trust,
        progress=progress_of(quiet),
    )
    finish_verification(found, out, as_json)
    if not found.ok:
        raise typer.Exit(1)


def data_known(
    models: Sequence[Path], name: str | None, root: Path | None, download: bool, options: Sequence[str] | None
) -> Data | None:
    """Load data by name, or what the first artifact among the models was trained on; None where neither is possible.

    Data that needs a root is not loaded without one: an artifact's hashes can be checked without its data.
    """
    from efface.artifact.artifact import RECORD, Artifact

    if name is not None:
        return load_data(name, root, download, pairs(options))
    for path in models:
        if (path / RECORD).is_file():
            try:
                described = Artifact.read_record(path).data
            except InputError:
                continue  # damaged: for `verify` itself to say
            if described.source == "custom" or (root is None and described.source != "digits"):
                return None
            return load_data(described.source, root, download, pairs(options) or described.options)
    return None


def checkpoint(path: Path, model: str, arguments: dict[str, Any], data: Data | None, trust: bool) -> Artifact | Module:
    """Load an artifact folder, or build a model and load a file of weights into it."""
    from efface.files import checked
    from efface.models.spec import ModelSpec, build

    if path.is_dir():
        return load_artifact(path, trust)
    if not model:
        raise InputError(f"{path} is a file of weights; say with --model (and --model-set) how its network is built")
    if data is None:
        raise InputError("--data is missing; name the data that the models were trained on, e.g. --data digits")
    spec = checked(ModelSpec, {"build": model, "arguments": arguments, "weights": path})
    return build(spec, input_shape=data.input_shape, num_classes=len(data.classes), trust=True)


def finish_verification(found: Verification, out: Path | None, as_json: bool) -> None:
    """Say what was checked, and write it with its audit's report if a folder is given."""
    if out is not None:
        from efface.files import write_file
        from efface.report import write

        out.mkdir(parents=True, exist_ok=True)
        files = [write_file(out / "verification.json", found.to_json())]
        files += write(found.audit, None, out) if found.audit else []
        for file in files:
            typer.echo(f"written: {file}", err=as_json)
    if as_json:
        typer.echo(found.to_json())
        return
    if found.audit is not None:
        from efface.report.console import show

        show(found.audit)
    for line in found.lines():
        typer.echo(line)
