"""What subcommands share: their options, and how expected failures end."""

from __future__ import annotations

import functools
import inspect
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from efface.cli.outcome import Exit, say
from efface.cli.signals import how_interrupted
from efface.errors import InputError, nearest

WHAT = "What is to be forgotten"
DATA = "Data"
MODEL = "How the model is built and trained"
REFERENCES = "References for audits (with --from and a request)"
MANY = "Many trainings: references, and members trained apart (sisa, arcane)"
"""Headings of help, under which options stand that belong together."""

VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show where an expected failure comes from.")]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn every expected failure into one line on stderr and its exit status; --verbose says where it comes from."""

    @functools.wraps(command)
    def guarded(*args: Any, verbose: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (InputError, OSError) as error:
            if verbose:
                traceback.print_exc()
            expected = isinstance(error, InputError)
            message = str(error) if expected else f"{type(error).__name__}: {error}"
            status = Exit.BAD_INPUT if expected else Exit.FAILED
        except KeyboardInterrupt:
            message, status = how_interrupted()
        else:
            return
        say(f"error: {message}", err=True)
        raise typer.Exit(status)

    # Typer reads signature and annotations; names in them are those of the command's own module.
    hints = get_type_hints(command, include_extras=True) | {"verbose": VerboseOption}
    _name_values(hints)
    own = inspect.signature(command)
    option = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False)
    parameters = [p.replace(annotation=hints[p.name]) for p in (*own.parameters.values(), option)]
    guarded.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    guarded.__annotations__ = hints
    # Its help keeps the breaks within paragraphs, which would break them twice on a narrow terminal.
    guarded.__doc__ = "\n\n".join(" ".join(p.split()) for p in (inspect.getdoc(command) or "").split("\n\n"))
    return guarded


def _name_values(hints: dict[str, Any]) -> None:
    """Have flags, which take no value, shown without one, and options that may be repeated with what each takes."""
    shown = {bool: "", list[Path] | None: "<path>"}
    for hint in hints.values():
        for option in getattr(hint, "__metadata__", ()):
            if isinstance(option, OptionInfo) and option.metavar is None and hint.__origin__ in shown:
                option.metavar = shown[hint.__origin__]


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

    names = {p.name: p for p in context.command.params if p.name and p.name not in {"config", "help"}}
    given = {k.replace("-", "_"): v for k, v in read_mapping(path).items()}
    for name in given:
        if name not in names:
            raise InputError(f"{path}: {context.info_name} has no option {name!r}. {nearest(name, names)}")
    several = {k for k, p in names.items() if p.nargs == -1 or getattr(p, "multiple", False)}
    return {k: [v] if k in several and isinstance(v, str) else _as_option(v) for k, v in given.items()}


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
    str | None,
    typer.Option(
        "--data", rich_help_panel=DATA, help="image_folder, manifest, huggingface, table, arrays, digits, mnist, ..."
    ),
]

RootOption = Annotated[
    Path | None, typer.Option("--root", rich_help_panel=DATA, help="Folder of the data (the .npz file for arrays).")
]

DownloadOption = Annotated[
    bool, typer.Option("--download", rich_help_panel=DATA, help="Let torchvision fetch data that is missing.")
]

DataSetOption = Annotated[
    list[str] | None,
    typer.Option("--data-set", rich_help_panel=DATA, metavar="NAME=VALUE", help="Option of the data source; repeat."),
]

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        rich_help_panel=MODEL,
        help="mlp, ..., timm.create_model, torchvision.models.NAME, or my_package:build.",
    ),
]

ModelSetOption = Annotated[
    list[str] | None,
    typer.Option("--model-set", rich_help_panel=MODEL, metavar="NAME=VALUE", help="Argument of the model; repeat."),
]

WeightsOption = Annotated[
    Path | None, typer.Option("--weights", rich_help_panel=MODEL, help="Start from .safetensors or a state dict.")
]

RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", rich_help_panel=MODEL, help="YAML file with the recipe.")
]

RecipeSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe-set", rich_help_panel=MODEL, metavar="NAME=VALUE", help="Field of the recipe, e.g. epochs=5; repeat."
    ),
]

KeepOption = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="WHAT", help="Keep for forgetting: class-means (of every layer's inputs)."),
]

SourceOption = Annotated[
    Path | None,
    typer.Option("--from", help="Artifact (or weights, with --model) to continue from, e.g. for codes."),
]

PrepareOption = Annotated[
    str | None, typer.Option("--method", help="Prepare for this method, e.g. mnemonic; plain training otherwise.")
]

TrainSeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of weights, order and augmentation.")]

CheckpointsOption = Annotated[
    Path | None,
    typer.Option("--checkpoints", help="Folder for a long training's state, so that the same command goes on."),
]

SeedOption = Annotated[int, typer.Option("--seed", help="Seed of this step.")]

HoldOutOption = Annotated[float, typer.Option("--validation", help="Fraction of training data to hold out.")]

UnseenOption = Annotated[
    float,
    typer.Option(
        "--validation",
        rich_help_panel=MODEL,
        help="Of weights: fraction of the training data that the model has never seen.",
    ),
]

MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        help="See `efface methods`, or my_package:MyMethod; auto tries them from cheap to dear until one passes.",
    ),
]

TuneOption = Annotated[
    bool, typer.Option("--tune", help="Search the method's hyper-parameters on held-out training data.")
]

BudgetOption = Annotated[
    float | None, typer.Option("--budget", help="For auto and --tune: share of retraining's time to spend, e.g. 0.3.")
]

JudgesOption = Annotated[
    list[Path] | None,
    typer.Option("--retrained", help="For auto and --tune: artifact made by retrain, to judge by; repeat."),
]

OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")]

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the folder, if all in it is Efface's.")]

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

LogOption = Annotated[
    Path | None,
    typer.Option("--log", metavar="FOLDER", help="Write event files for TensorBoard into this folder, too."),
]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Hyper-parameter of the method; repeat.")
]

TrustOption = Annotated[bool, typer.Option("--trust", help="Allow the record's own model builder to be imported.")]

ClassesOption = Annotated[
    str | None, typer.Option("--classes", rich_help_panel=WHAT, help="Classes to forget: 0,5 or ship,cat.")
]

ItemsOption = Annotated[
    str | None, typer.Option("--items", rich_help_panel=WHAT, help="Training items: 3,17,42 or @FILE, one per line.")
]

GroupsOption = Annotated[
    str | None, typer.Option("--groups", rich_help_panel=WHAT, help="Groups (one person's records): anna,bert.")
]

IdsOption = Annotated[
    str | None,
    typer.Option(
        "--ids", rich_help_panel=WHAT, help="Ids as the data calls them (paths): a.jpg,b.jpg or @FILE, one per line."
    ),
]

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        rich_help_panel=WHAT,
        metavar="COLUMN=VALUE|CONDITION",
        help="By metadata, e.g. 'subject == \"p17\" and year < 2020'.",
    ),
]

SkipBadOption = Annotated[
    bool,
    typer.Option(
        "--skip-bad", rich_help_panel=DATA, help="Leave out images that cannot be read; the record lists them."
    ),
]

RequestOption = Annotated[
    Path | None, typer.Option("--request", rich_help_panel=WHAT, help="JSON file with the request.")
]

CanariesOption = Annotated[
    int,
    typer.Option("--canaries", metavar="N", help="Add N records that only memory gets right, for later audits."),
]

WithCanariesOption = Annotated[
    bool,
    typer.Option(
        "--with-canaries", rich_help_panel=WHAT, help="Forget the canaries of training, too (not with classes)."
    ),
]

ReasonOption = Annotated[str, typer.Option("--reason", rich_help_panel=WHAT, help="Why; kept in the record.")]

RequestedAtOption = Annotated[
    str,
    typer.Option(
        "--requested-at", rich_help_panel=WHAT, metavar="DATE", help="When the request arrived, e.g. 2026-03-04."
    ),
]

RequestedByOption = Annotated[
    str, typer.Option("--requested-by", rich_help_panel=WHAT, help="Who asked; kept in the record.")
]

TicketOption = Annotated[
    str, typer.Option("--ticket", rich_help_panel=WHAT, help="What the request is filed under; kept in the record.")
]

ReferencesOption = Annotated[
    int | None,
    typer.Option(
        "--references",
        metavar="N",
        rich_help_panel=REFERENCES,
        help="Retrain N times without what a request names, for audits.",
    ),
]

RepeatsOption = Annotated[
    int,
    typer.Option(
        "--repeats", metavar="N", rich_help_panel=REFERENCES, help="With --references: N runs of training and --method."
    ),
]

ShadowsOption = Annotated[
    int,
    typer.Option(
        "--shadows",
        metavar="N",
        rich_help_panel=REFERENCES,
        help="With --references: N shadow models in thirds (U-LiRA).",
    ),
]

BackendOption = Annotated[
    str, typer.Option("--backend", rich_help_panel=MANY, help="auto, processes, serial, ray; references: vmap.")
]

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, rich_help_panel=MANY, help="At once, one thread each; one per core."),
]

ReferencesFolderOption = Annotated[
    Path | None, typer.Option("--references", help="Folder made by `efface train --references`.")
]
