"""What subcommands share: their options, how expected failures end, and reading options into requests and data."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.errors import InputError, nearest

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact
    from efface.data import Data
    from efface.references import References
    from efface.request import Request
    from efface.training.recipe import Recipe


def guarded(command: Callable[..., None]) -> Callable[..., None]:
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
    from efface.files import read_mapping

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

ClassesOption = Annotated[str | None, typer.Option("--classes", help="Classes to forget: 0,5 or ship,cat.")]

ItemsOption = Annotated[str | None, typer.Option("--items", help="Training items: 3,17,42 or @FILE, one per line.")]

GroupsOption = Annotated[str | None, typer.Option("--groups", help="Groups (one person's records): anna,bert.")]

WhereOption = Annotated[list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help="By metadata.")]

RequestOption = Annotated[Path | None, typer.Option("--request", help="JSON file with the request.")]

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the record.")]

PANEL = "References for audits (with --from and a request)"

BackendOption = Annotated[
    str, typer.Option("--backend", rich_help_panel=PANEL, help="auto, processes, vmap, serial or ray.")
]

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, rich_help_panel=PANEL, help="Processes, one thread each; one per core."),
]


def pairs(given: Sequence[str] | None) -> dict[str, Any]:
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


def request_of(
    classes: str | None,
    items: str | None,
    groups: str | None,
    where: Sequence[str] | None,
    path: Path | None,
    reason: str,
) -> Request:
    """Read the options that say what to forget; just one of them may be given."""
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
        fields["where"] = pairs(where)
    if items:
        listed = _listed(Path(items[1:])) if items.startswith("@") else _words(items)
        if bad := [i for i in listed if not i.isdecimal()]:
            raise InputError(f"item ids are whole numbers from 0; given: {', '.join(bad[:5])}")
        fields["items"] = tuple(map(int, listed))
    return Request.of(**fields)


def check_request_given(references: int | None, *others: object) -> None:
    """Refuse options that only references take, where none are asked for."""
    if references is None and any(others):
        raise InputError(
            "what to forget (--classes, --items, ...), --repeats and --shadows go with --references N; to forget, use "
            "`efface forget`"
        )


def _listed(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"--items @{path}: there is no such file; needed: item ids, one per line")
    return _words(path.read_text(encoding="utf-8").replace("\n", ","))


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


def recipe_of(path: Path | None, changes: dict[str, Any], seed: int | None, base: Recipe | None) -> Recipe:
    """Read a recipe: the base, the file over it, single fields over that."""
    from efface.files import checked, read_mapping
    from efface.training.recipe import Recipe

    values = base.model_dump() if base else {}
    values |= read_mapping(path) if path else {}
    return checked(Recipe, values | changes | ({} if seed is None else {"seed": seed}), str(path or "recipe"))


def load_data(name: str, root: Path | None, download: bool, options: dict[str, Any]) -> Data:
    """Load data by name."""
    from efface.data import load

    return load(name, root, download, **options)


def data_of(
    artifact: Artifact, name: str | None, root: Path | None, download: bool, options: Sequence[str] | None
) -> Data:
    """Load the data an artifact was trained on: its record knows the source and options, the user knows the root."""
    described = artifact.record.data
    source = name or described.source
    if source == "custom":
        raise InputError("the artifact was trained on a Dataset handed over in Python; use efface's functions there")
    return load_data(source, root, download, pairs(options) or (described.options if name is None else {}))


def load_artifact(path: Path, trust: bool) -> Artifact:
    """Load an artifact with the architecture that its methods left."""
    from efface.artifact.artifact import Artifact
    from efface.methods.applying import rebuilt

    return Artifact.load(path, trust=trust, rebuild=rebuilt)


def progress_of(quiet: bool) -> Any:
    """Return where progress is shown."""
    from efface.running.progress import ConsoleProgress, Progress

    return Progress() if quiet else ConsoleProgress()


def finish(artifact: Artifact, as_json: bool, hint: str) -> None:
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


def finish_references(made: References, source: Path, as_json: bool) -> None:
    """Say which references there are and where."""
    if as_json:
        manifest = json.loads(made.manifest.model_dump_json())
        typer.echo(json.dumps({"folder": str(made.folder), "manifest": manifest}, indent=2))
        return
    for series in made.manifest.series:
        typer.echo(f"{series}: {len(made.finished(series))} models")
    typer.echo(f"written: {made.folder}")
    typer.echo(f"next: efface audit FORGOTTEN --original {source} --references {made.folder}")
