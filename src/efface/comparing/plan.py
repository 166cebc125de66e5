"""What to compare, as data: one YAML file that a command can run again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from efface.auditing.settings import AuditSettings
from efface.errors import InputError, explain, nearest
from efface.fields import Fields
from efface.files import read
from efface.methods.catalogue import method_of, name_of
from efface.methods.method import Method
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.running.imported import path_of
from efface.training.recipe import Recipe

__all__ = ["Cell", "Entry", "Measure", "Plan", "Preparation", "Source", "check_folder", "read_plan"]

ORIGINAL = "original"
"""The entry that measures the model before forgetting."""

Measure = Literal["accuracy", "probe", "relearning", "audit"]


class _Strict(Fields):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Strict):
    """Which data: see `efface.data.load`.

    Attributes:
        source: Name of the data source.
        path: File or folder relative to the root that the command is given; empty for the root itself.
        options: Arguments of the source.
        validation: Fraction of the training data held out.
    """

    source: str
    path: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    validation: float = Field(default=0.1, ge=0, lt=1)


def _by_name(given: Any) -> Any:
    """Write a method's instance as its name (or import path) and settings."""
    if not isinstance(given, dict) or not isinstance(given.get("method"), Method):
        return given
    method: Method = given["method"]
    if given.get("settings"):
        raise ValueError("settings go with a method's name; an instance already has its own")
    return {**given, "method": name_of(method), "settings": method.settings()}


class Preparation(_Strict):
    """How the original is trained: plainly, or under a method that prepares at training time.

    Attributes:
        method: Name of the method, or the import path of one of your own; None trains plainly.
        settings: Its hyper-parameters.
        fine_tune: Train plainly by the plan's recipe first, once for all rows that start so, and then go on under the
            method by this one, whose seed is replaced, too; None prepares from the start.
    """

    method: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    fine_tune: Recipe | None = None

    _instance = model_validator(mode="before")(_by_name)

    @model_validator(mode="after")
    def _under_a_method(self) -> Preparation:
        if self.fine_tune is not None and self.method is None:
            raise ValueError("fine_tune goes on under a method that prepares; name it (method: mnemonic)")
        return self


class Entry(_Strict):
    """One row (or one grid of rows) of the comparison.

    Attributes:
        method: Name of the method, the import path of one of your own (`my_package:MyMethod`), an instance, or
            `original` for the model before forgetting.
        label: What the tables call it; the method's name (or path) by default.
        settings: Hyper-parameters.
        grid: Hyper-parameter -> values; every combination becomes a row of its own.
        train: How this entry's original is trained; the plan's own `train` by default.
    """

    method: str
    label: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    train: Preparation | None = None

    _instance = model_validator(mode="before")(_by_name)

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.label or self.method

    def expanded(self) -> Iterator[dict[str, Any]]:
        """Yield the settings of every combination of the grid."""
        for values in itertools.product(*self.grid.values()):
            yield {**self.settings, **dict(zip(self.grid, values, strict=True))}


class Cell(_Strict):
    """One method on one request with one seed; `asked` is what the tables call the request."""

    entry: str
    method: str
    settings: dict[str, Any]
    train: Preparation
    request: Request
    asked: str
    seed: int

    @property
    def plain(self) -> Cell | None:
        """The cell whose original is trained plainly and gone on from; None where training begins anew."""
        return None if self.train.fine_tune is None else self.model_copy(update={"train": Preparation()})


class Plan(_Strict):
    """A comparison.

    Attributes:
        name: Folder name of the results.
        about: What it shows, in a sentence; printed above the table.
        data: Which data.
        model: Which network.
        recipe: How originals are trained; its seed is replaced by each of `seeds`.
        train: How originals are prepared, unless an entry says otherwise.
        requests: What to forget, each on its own.
        methods: Rows.
        seeds: Seeds of originals; methods and retraining get seeds derived from them.
        measures: What to measure beside the time: accuracies, linear probe, relearning; or `audit`, which is all of
            these and every other score of an audit, with floors. Functions of your own by import path
            (`my_package:my_metric`), see `efface.comparing.own`.
        references: Retrained models of each original and request that audits compare with; from 4 on, level (c).
        audit: What each audit may spend.
        sampled: Most training samples that RA and FA look at, each drawn at random.
        published: Row label -> column -> published figure, printed beside ours.

    Example:
        >>> import efface
        >>> plan = efface.Plan(
        ...     name="small",
        ...     data={"source": "digits"},
        ...     model={"build": "mlp"},
        ...     requests=[{"classes": [3]}, {"items": [17, 471]}],
        ...     methods=[{"method": "fine-tune", "grid": {"epochs": [1, 2]}}, {"method": "retrain"}],
        ... )
        >>> len(plan.cells())
        6
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    about: str = ""
    data: Source
    model: ModelSpec
    recipe: Recipe = Recipe()
    train: Preparation = Preparation()
    requests: tuple[Request, ...] = Field(min_length=1)
    methods: tuple[Entry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    measures: tuple[str, ...] = ("accuracy", "probe")
    references: int = Field(default=0, ge=0)
    audit: AuditSettings = AuditSettings()
    sampled: int = Field(default=10_000, ge=1)
    published: dict[str, dict[str, str]] = Field(default_factory=dict)

    @field_validator("measures", mode="before")
    @classmethod
    def _by_path(cls, given: Any) -> Any:
        """Write functions as their import paths, and refuse unknown names."""
        if not isinstance(given, list | tuple):
            return given
        found = [path_of(m) if callable(m) else m for m in given]
        if None in found:
            raise ValueError("a function cannot be imported by other processes: define it at a module's top level")
        names = [m for m in found if isinstance(m, str)]
        if len(names) < len(found):
            return given  # refused by its type
        for name in names:
            if ":" not in name and name not in get_args(Measure):
                allowed = nearest(name, get_args(Measure))
                raise ValueError(f"unknown measure {name!r}. {allowed} A function of your own: my_package:my_metric.")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _named_once(self) -> Plan:
        names = [e.name for e in self.methods]
        if len(set(names)) < len(names):
            raise ValueError(f"each row needs a label of its own; given: {names}")
        if self.references and "audit" not in self.measures:
            raise ValueError("references are for audits; add audit to the measures, or leave references out")
        if unknown := sorted(set(self.published) - set(names)):
            raise ValueError(f"published figures for rows that are not in the plan: {unknown}; rows: {names}")
        return self

    def asked(self) -> list[str]:
        """Return what the tables call each request: its words, and its place in the plan where others have the same."""
        words = [request.describe() for request in self.requests]
        return [w if words.count(w) == 1 else f"{w} (request {i})" for i, w in enumerate(words, start=1)]

    def cells(self) -> list[Cell]:
        """Return every cell of the grid, checked: what no method can do fails before any work.

        Raises:
            InputError: A method or a hyper-parameter does not exist or is out of bounds, or a method cannot forget what
                a request names.
        """
        found = []
        for entry in self.methods:
            train = entry.train or self.train
            if train.method is not None:
                method_of(train.method, train.settings)
            for settings in entry.expanded():
                if entry.method != ORIGINAL:
                    _check_targets(entry, method_of(entry.method, settings), self.requests)
                elif settings:
                    raise InputError("the entry `original` forgets nothing and takes no settings")
                for (request, asked), seed in itertools.product(
                    zip(self.requests, self.asked(), strict=True), self.seeds
                ):
                    found.append(
                        Cell(
                            entry=entry.name,
                            method=entry.method,
                            settings=settings,
                            train=train,
                            request=request,
                            asked=asked,
                            seed=seed,
                        )
                    )
        return found


def _check_targets(entry: Entry, method: Method, requests: Sequence[Request]) -> None:
    able = method.needs.targets
    for request in requests:
        if request.target not in able:
            raise InputError(
                f"{entry.name!r} forgets {' and '.join(able)}, and the plan asks to forget {request.describe()}; "
                f"leave one of them out, or put requests of {request.target} into a plan of their own"
            )


def read_plan(path: str | Path) -> Plan:
    """Read a plan from YAML.

    Raises:
        InputError: The file is missing or is not a plan; the field at fault is named.
    """
    return read(path, Plan)


def check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder with another plan's results; a changed plan of the same name replaces its own."""
    file = folder / "plan.json"
    if not file.is_file():
        return
    try:
        name = Plan.model_validate_json(file.read_bytes()).name
    except ValidationError as error:
        # Plans of other versions may have other fields; their name is what counts.
        try:
            name = json.loads(file.read_bytes())["name"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} is damaged: {explain(error)}") from None
    if name != plan.name:
        raise InputError(f"{folder} holds the results of the plan {name!r}; give {plan.name!r} a folder of its own")
