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

__all__ = [
    "PredictedClasses",
    "PredictedGroups",
    "PredictedIds",
    "PredictedRepeat",
    "PredictedRequest",
    "PredictedWhere",
    "audit_tables",
    "refuse_requests",
]

PANEL = "What was to be forgotten (with --predictions; else by the column part)"

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
)
"""Options that ask for models or their data."""

OF_TABLES = ("classes", "ids", "groups", "where", "request", "repeat")
"""Options that only tables of predictions need: an artifact's record says what was asked."""


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
    asked = Asked(given.classes, None, given.groups, given.where, given.request, ids=given.ids)
    before, after, *retrained = tables
    return audit_predictions(
        before,
        after,
        retrained,
        request=asked.request() if any(asked) else None,
        columns={name: str(value) for name, value in pairs(given.data_set).items()},
        repeats=given.repeat or (),
        others=by_name(given.other),
        name=after.stem if after.stem not in {"original", "retrained"} else "candidate",
        settings=AuditSettings(sealed=given.sealed),
        seed=given.seed + SEED if given.sealed else given.seed,
        progress=progress_of(given.quiet),
    )


def refuse_requests(given: SimpleNamespace) -> None:
    """Refuse options that only tables of predictions need.

    Raises:
        InputError: One was given.
    """
    _refuse(given, OF_TABLES, "is for --predictions; an artifact's record says what it was asked to forget")


def _refuse(given: SimpleNamespace, names: tuple[str, ...], why: str) -> None:
    found = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name)]
    if found:
        raise InputError(f"{', '.join(found)} {why}")
