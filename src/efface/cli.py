"""The command line: one thin subcommand per verb, with the same name and the same arguments.

Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted. Results go to stdout, progress and errors to stderr.
Nothing heavy is imported before a subcommand runs, so that `efface --help` answers at once.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface import __version__
from efface.cli_options import (
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
    ReasonOption,
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
from efface.cli_verify import verify
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.artifact import Artifact

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make trained PyTorch classifiers forget on request, and show how far they did.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
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
    from efface import verbs
    from efface.folder import check_vacant
    from efface.models.spec import ModelSpec
    from efface.settings import checked

    check_request_given(references, classes, items, groups, where, request, repeats, shadows)
    if references is not None:
        if source is None or recipe or recipe_set or model or weights:
            raise InputError("references are trained as an original was: give --from ORIGINAL, no model and no recipe")
        asked = request_of(classes, items, groups, where, request, "")
        if overwrite and (out / "references.json").is_file():
            shutil.rmtree(out)
        parent = load_artifact(source, trust)
        made = verbs.train_references(
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
    artifact = verbs.train(
        start,
        loaded,
        method=method,
        settings=pairs(settings),
        recipe=recipe_of(recipe, pairs(recipe_set), seed, base),
        validation=validation,
        device=device,
        progress=progress_of(quiet),
    )
    artifact.save(out, overwrite=overwrite)
    finish(artifact, as_json, f"next: efface forget {out} --method ... --classes ... --out FOLDER")


@app.command()
@guarded
def forget(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of the trained model.")],
    method: Annotated[str, typer.Option("--method", "-m", help="See `efface methods`; or auto.")],
    out: OutOption,
    classes: ClassesOption = None,
    items: ItemsOption = None,
    groups: GroupsOption = None,
    where: WhereOption = None,
    request: RequestOption = None,
    reason: ReasonOption = "",
    settings: SetOption = None,
    retrained: Annotated[
        Path | None, typer.Option("--retrained", help="For method auto: artifact made by retrain, to judge by.")
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of this step.")] = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a trained classifier forget classes, items, or everything of a group."""
    from efface import verbs
    from efface.folder import check_vacant

    check_vacant(out, overwrite)
    asked = request_of(classes, items, groups, where, request, reason)
    source = load_artifact(artifact, trust)
    loaded = data_of(source, data, root, download, data_set)
    forgotten = verbs.forget(
        source,
        loaded,
        asked,
        method=method,
        settings=pairs(settings),
        retrained=None if retrained is None else load_artifact(retrained, trust),
        seed=seed,
        device=device,
        progress=progress_of(quiet),
    )
    forgotten.save(out, overwrite=overwrite)
    finish(forgotten, as_json, f"next: efface audit {out} --original {artifact} --retrain")


@app.command()
@guarded
def audit(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder made by `efface forget`.")],
    original: Annotated[Path, typer.Option("--original", help="Artifact folder of the model before forgetting.")],
    retrained: Annotated[
        list[Path] | None, typer.Option("--retrained", help="Artifact folder made by method retrain; repeat.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Retrain one reference now (takes a training).")] = False,
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder made by `efface train --references`.")
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option("--other", help="More artifacts as rows, named after their folders; repeat.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for audit.json and the reports; the artifact's by default."),
    ] = None,
    data: DataOption = None,
    root: RootOption = None,
    download: DownloadOption = False,
    data_set: DataSetOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the audit's draws.")] = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Measure how far a model has forgotten, and write audit.json, report.html and report.md."""
    from efface import verbs
    from efface.references import load_references
    from efface.report import write

    if sum(map(bool, (retrain, retrained, references))) > 1:
        raise InputError("give one of --references FOLDER, --retrained FOLDERS and --retrain")
    candidate = load_artifact(artifact, trust)
    before = load_artifact(original, trust)
    compared: Any = [load_artifact(p, trust) for p in retrained] if retrained else retrain
    if references:
        compared = load_references(references, before.model, trust=trust)
    others = {p.resolve().name: load_artifact(p, trust) for p in other or ()}
    loaded = data_of(candidate, data, root, download, data_set)
    found = verbs.audit(
        candidate,
        loaded,
        original=before,
        retrained=compared,
        others=others,
        seed=seed,
        device=device,
        progress=progress_of(quiet),
    )
    folder = out or artifact
    folder.mkdir(parents=True, exist_ok=True)
    files = write(found, candidate.record, folder)
    if as_json:
        typer.echo(found.to_json())
    else:
        from efface.report.console import show

        show(found)
    for file in files:
        typer.echo(f"written: {file}", err=as_json)


app.command()(verify)


@app.command()
@guarded
def methods(as_json: JsonOption = False) -> None:
    """List the unlearning methods: what each forgets, reads, needs and costs."""
    from efface.methods.catalogue import describe

    rows = describe()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    from efface.terminal import print_table

    table = Table("method", "forgets", "reads", "needs at training", "time", "source", header_style="bold")
    for row in rows:
        table.add_row(
            row["name"],
            ", ".join(row["targets"]),
            ", ".join(row["reads"]) or "nothing",
            row["prepared"] or "-",
            row["cost"],
            row["source"],
        )
    print_table(table)


@app.command()
@guarded
def demo(
    out: OutOption = Path("demo"),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on handwritten digits, forget one class in two ways, audit both: a minute, no network."""
    from efface.demo import run_demo

    result = run_demo(out, overwrite=overwrite, device=device, progress=progress_of(quiet))
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        result.show()


@app.command()
@guarded
def compare(
    plan: Annotated[Path, typer.Argument(help="YAML plan: data, model, recipe, requests, methods, seeds.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for results; results/NAME beside the plan by default.")
    ] = None,
    root: RootOption = None,
    download: DownloadOption = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes with one thread each.")] = 1,
    cells: Annotated[
        Path | None, typer.Option("--cells", help="Folder of finished cells and originals, to share between plans.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore finished cells and compute all again.")] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a grid of methods, requests and seeds from a plan; finished cells are kept, so it can be resumed."""
    from efface.comparing import compare as run_plan

    result = run_plan(
        plan,
        out=out,
        root=root,
        download=download,
        fresh=fresh,
        device=device,
        workers=workers,
        cells=cells,
        progress=progress_of(quiet),
    )
    if as_json:
        typer.echo(result.to_json())
    else:
        result.show()
    for file in result.files:
        typer.echo(f"written: {file}", err=as_json)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
