"""The command line: one thin subcommand per verb, with the same name and the same arguments.

Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted. Results go to stdout, progress and errors to stderr.
Nothing heavy is imported before a subcommand runs, so that `efface --help` answers at once.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface import __version__
from efface.errors import InputError, nearest

if TYPE_CHECKING:
    from efface.artifact import Artifact
    from efface.data import Data
    from efface.request import Request
    from efface.training import Recipe

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make trained PyTorch classifiers forget on request, and show how far they did.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn every expected failure into one line on stderr and its exit status."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            message, status = str(error), 2
        except OSError as error:
            message, status = f"{type(error).__name__}: {error}", 1
        except KeyboardInterrupt:
            message, status = "interrupted; nothing half-written was left behind", 130
        else:
            return
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(status)

    return guarded


def _config(context: typer.Context, path: Path | None) -> Path | None:
    """Take a YAML file's entries as the defaults of this subcommand's options."""
    if path is None:
        return None
    try:
        context.default_map = _defaults(context, path)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    return path


def _defaults(context: typer.Context, path: Path) -> dict[str, Any]:
    from efface.settings import read_mapping

    names = {p.name for p in context.command.params if p.name and p.name not in {"config", "help"}}
    given = {k.replace("-", "_"): v for k, v in read_mapping(path).items()}
    for name in given:
        if name not in names:
            raise InputError(f"{path}: {context.info_name} has no option {name!r}. {nearest(name, names)}")
    return {k: _as_option(v) for k, v in given.items()}


def _as_option(value: Any) -> Any:
    """Write a YAML value as the option's own spelling: mappings as name=value lists, lists of numbers with commas."""
    if isinstance(value, dict):
        return [f"{k}={json.dumps(v)}" for k, v in value.items()]
    if isinstance(value, list) and not all(isinstance(v, str) for v in value):
        return ",".join(map(str, value))
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", callback=_config, is_eager=True, help="YAML file with these options, in place of flags."),
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="digits, mnist, cifar10, cifar100, image_folder, arrays.")
]
RootOption = Annotated[Path | None, typer.Option("--root", help="Folder of the data (the .npz file for arrays).")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Let torchvision fetch data that is missing.")]
DataSetOption = Annotated[
    list[str] | None, typer.Option("--data-set", metavar="NAME=VALUE", help="Option of the data source; repeat.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Hyper-parameter of the method; repeat.")
]
TrustOption = Annotated[bool, typer.Option("--trust", help="Allow the record's own model builder to be imported.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@_guarded
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
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Train a classifier, plainly or with what a method needs to forget later."""
    from efface import verbs
    from efface.folder import check_vacant
    from efface.models.spec import ModelSpec
    from efface.settings import checked

    check_vacant(out, overwrite)
    if (source is None) == (not model):
        raise InputError("give either --model, to train from the start, or --from, to continue from an artifact")
    if source is not None:
        parent = _load(source, trust)
        start: ModelSpec | Artifact = parent
        loaded = _data_of(parent, data, root, download, data_set)
        base = parent.record.recipe
    else:
        start = checked(ModelSpec, {"build": model, "arguments": _pairs(model_set), "weights": weights})
        if data is None:
            raise InputError("--data is missing; name a data set, e.g. --data digits")
        loaded = _load_data(data, root, download, _pairs(data_set))
        base = None
    artifact = verbs.train(
        start,
        loaded,
        method=method,
        settings=_pairs(settings),
        recipe=_recipe(recipe, _pairs(recipe_set), seed, base),
        validation=validation,
        device=device,
        progress=_progress(quiet),
    )
    artifact.save(out, overwrite=overwrite)
    _finish(artifact, as_json, f"next: efface forget {out} --method ... --classes ... --out FOLDER")


@app.command()
@_guarded
def forget(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of the trained model.")],
    method: Annotated[str, typer.Option("--method", "-m", help="See `efface methods`.")],
    out: OutOption,
    classes: Annotated[str | None, typer.Option("--classes", help="Classes to forget: 0,5 or ship,cat.")] = None,
    items: Annotated[
        str | None, typer.Option("--items", help="Training items: 3,17,42 or @FILE, one per line.")
    ] = None,
    groups: Annotated[str | None, typer.Option("--groups", help="Groups (one person's records): anna,bert.")] = None,
    where: Annotated[list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help="By metadata.")] = None,
    request: Annotated[Path | None, typer.Option("--request", help="JSON file with the request.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the record.")] = "",
    settings: SetOption = None,
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
    asked = _request(classes, items, groups, where, request, reason)
    source = _load(artifact, trust)
    loaded = _data_of(source, data, root, download, data_set)
    forgotten = verbs.forget(
        source,
        loaded,
        asked,
        method=method,
        settings=_pairs(settings),
        seed=seed,
        device=device,
        progress=_progress(quiet),
    )
    forgotten.save(out, overwrite=overwrite)
    _finish(forgotten, as_json, f"next: efface audit {out} --original {artifact} --retrain")


@app.command()
@_guarded
def audit(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder made by `efface forget`.")],
    original: Annotated[Path, typer.Option("--original", help="Artifact folder of the model before forgetting.")],
    retrained: Annotated[
        list[Path] | None, typer.Option("--retrained", help="Artifact folder made by method retrain; repeat.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Retrain one reference now (takes a training).")] = False,
    other: Annotated[list[Path] | None, typer.Option("--other", help="More artifacts as rows; repeat.")] = None,
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
    from efface.report import write

    if retrain and retrained:
        raise InputError("give either --retrained folders or --retrain, not both")
    candidate = _load(artifact, trust)
    before = _load(original, trust)
    references: list[Any] | bool = [_load(p, trust) for p in retrained] if retrained else retrain
    others = {_load(p, trust).record.method: _load(p, trust) for p in other or ()}
    loaded = _data_of(candidate, data, root, download, data_set)
    found = verbs.audit(
        candidate,
        loaded,
        original=before,
        retrained=references,
        others=others,
        seed=seed,
        device=device,
        progress=_progress(quiet),
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


@app.command()
@_guarded
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
@_guarded
def demo(
    out: OutOption = Path("demo"),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on handwritten digits, forget one class in two ways, audit both: a minute, no network."""
    from efface.demo import run_demo

    result = run_demo(out, overwrite=overwrite, device=device, progress=_progress(quiet))
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        result.show()


@app.command()
@_guarded
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
        progress=_progress(quiet),
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


def _pairs(given: Sequence[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE options; values are YAML scalars or lists, so 0.1, true and [1, 2] mean what they say."""
    import yaml

    values: dict[str, Any] = {}
    for pair in given or ():
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise InputError(f"{pair!r} is not NAME=VALUE")
        if name in values:
            raise InputError(f"{name} is given twice: {values[name]!r} and {text!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        # YAML 1.1 reads 1e-3 as a word, because it lacks a point.
        values[name] = _number(value) if isinstance(value, str) else value
    return values


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _request(
    classes: str | None,
    items: str | None,
    groups: str | None,
    where: Sequence[str] | None,
    path: Path | None,
    reason: str,
) -> Request:
    from efface.request import Request

    flags = [f for f, v in (("--classes", classes), ("--items", items), ("--groups", groups), ("--where", where)) if v]
    if path is not None:
        if flags:
            raise InputError(f"--request already says what to forget; leave out {', '.join(flags)}")
        return Request.read(path)
    if len(flags) != 1:
        raise InputError(
            f"say what to forget with one of --classes, --items, --groups, --where, --request; given: {flags}"
        )
    fields: dict[str, Any] = {"reason": reason}
    if classes:
        fields["classes"] = tuple(int(c) if c.isdecimal() else c for c in _words(classes))
    if groups:
        fields["groups"] = tuple(_words(groups))
    if where:
        fields["where"] = _pairs(where)
    if items:
        listed = _words(Path(items[1:]).read_text().replace("\n", ",")) if items.startswith("@") else _words(items)
        if bad := [i for i in listed if not i.isdecimal()]:
            raise InputError(f"item ids are whole numbers from 0; given: {', '.join(bad[:5])}")
        fields["items"] = tuple(map(int, listed))
    return Request.of(**fields)


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


def _recipe(path: Path | None, changes: dict[str, Any], seed: int | None, base: Recipe | None) -> Recipe:
    from efface.settings import checked, read_mapping
    from efface.training import Recipe

    values = base.model_dump() if base else {}
    values |= read_mapping(path) if path else {}
    return checked(Recipe, values | changes | ({} if seed is None else {"seed": seed}), str(path or "recipe"))


def _load_data(name: str, root: Path | None, download: bool, options: dict[str, Any]) -> Data:
    from efface.data import load

    return load(name, root, download, **options)


def _data_of(
    artifact: Artifact, name: str | None, root: Path | None, download: bool, options: Sequence[str] | None
) -> Data:
    """Load the data an artifact was trained on: its record knows the source and options, the user knows the root."""
    described = artifact.record.data
    source = name or described.source
    if source == "custom":
        raise InputError("the artifact was trained on a Dataset handed over in Python; use efface's functions there")
    return _load_data(source, root, download, _pairs(options) or (described.options if name is None else {}))


def _load(path: Path, trust: bool) -> Artifact:
    from efface.artifact import Artifact
    from efface.verbs import rebuilt

    return Artifact.load(path, trust=trust, rebuild=rebuilt)


def _progress(quiet: bool) -> Any:
    from efface.run import ConsoleProgress, Progress

    return Progress() if quiet else ConsoleProgress()


def _finish(artifact: Artifact, as_json: bool, hint: str) -> None:
    """Say what was made and where it is."""
    record = artifact.record
    if as_json:
        typer.echo(json.dumps({"folder": str(artifact.path), "record": json.loads(record.model_dump_json())}, indent=2))
        return
    asked = f" {record.request.describe()}" if record.request else ""
    seconds = sum(record.seconds.values())
    typer.echo(f"{record.action} ({record.method}){asked}: {seconds:.2f} s")
    for note in record.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {artifact.path}")
    typer.echo(hint)


if __name__ == "__main__":
    main()
