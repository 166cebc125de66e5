"""The branch of the subcommand `audit` for tables of predictions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

import typer

from efface.cli.loading import Asked, by_name, pairs, progress_of
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.auditing.result import Audit
    from efface.request import Request

__all__ = [
    "PredictedClasses",
    "PredictedGroups",
    "PredictedIds",
    "PredictedRepeat",
    "PredictedRequest",
    "PredictedWhere",
    "asked_of",
    "audit_tables",
    "refuse_others",
]

PANEL = "What was to be forgotten (of tables: else by the column part; of weights)"

PredictedClasses = Annotated[
    str | None, typer.Option("--classes", rich_help_panel=PANEL, help="Classes: 0,5 or ship,cat.")
]

PredictedIds = Annotated[
    str | None, typer.Option("--ids", rich_help_panel=PANEL, help="Ids: a,b or @FILE, one per line.")
]

PredictedGroups = Annotated[
    str | None, typer.Option("--groups", rich_help_panel=PANEL, help="Values of the column `group`: anna,bert.")
]

PredictedWhere = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="CONDITION", rich_help_panel=PANEL, help="On other columns, e.g. 'year < 2020'."),
]

PredictedRequest = Annotated[
    Path | None, typer.Option("--request", rich_help_panel=PANEL, help="JSON file with the request.")
]

PredictedRepeat = Annotated[
    list[Path] | None,
    typer.Option("--repeat", help="With --predictions: table of another run of the same forgetting; repeat."),
]

OF_MODELS = (
    "original",
    "retrained",
    "retrain",
    "references",
    "all_requests",
    "step",
    "data",
    "root",
    "download",
    "trust",
    "model",
    "model_set",
)
"""Options that ask for models or their data."""

OF_ARTIFACTS = ("all_requests", "step")
"""Options that need a record."""

OF_REQUESTS = ("classes", "ids", "groups", "where", "request")
"""Options that an artifact does not need: its record says what was asked."""


def audit_tables(given: SimpleNamespace) -> Audit:
    """Audit tables of predictions with the options as they were given.

    Raises:
        InputError: An option is for models, or fewer than two tables are given.
    """
    from efface.auditing.sealed import SEED
    from efface.auditing.settings import AuditSettings
    from efface.verbs.predictions import audit_predictions

    chosen = OF_MODELS if given.device == "auto" else (*OF_MODELS, "device")
    _refuse(given, chosen, "is for models; with --predictions all that is known stands in the tables")
    tables = given.artifact
    if len(tables) < 2:
        raise InputError("give two tables or more: --predictions BEFORE.csv AFTER.csv [RETRAINED.csv ...]")
    before, after, *retrained = tables
    return audit_predictions(
        before,
        after,
        retrained,
        request=asked_of(given),
        columns={name: str(value) for name, value in pairs(given.data_set).items()},
        repeats=given.repeat or (),
        others=by_name(given.other),
        name=after.stem if after.stem not in {"original", "retrained"} else "candidate",
        settings=AuditSettings(sealed=given.sealed),
        seed=given.seed + SEED if given.sealed else given.seed,
        progress=progress_of(given.quiet),
    )


def asked_of(given: SimpleNamespace) -> Request | None:
    """Return what was to be forgotten, where the options say so."""
    asked = Asked(given.classes, None, given.groups, given.where, given.request, ids=given.ids)
    return asked.request() if any(asked) else None


def refuse_others(given: SimpleNamespace, weights: bool) -> None:
    """Refuse options that are not for models, or not for models of this kind.

    Raises:
        InputError: One was given.
    """
    _refuse(given, ("repeat",), "is for --predictions")
    if weights:
        _refuse(given, OF_ARTIFACTS, "needs an artifact folder, whose record lists its requests")
        return
    _refuse(
        given, OF_REQUESTS, "is for --predictions or weights; an artifact's record says what it was asked to forget"
    )
    _refuse(given, ("model", "model_set"), "is for weights; an artifact's record says how its model is built")


def _refuse(given: SimpleNamespace, names: tuple[str, ...], why: str) -> None:
    found = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name)]
    if found:
        raise InputError(f"{', '.join(found)} {why}")
